//! The command `pefc`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
