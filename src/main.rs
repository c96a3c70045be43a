//! The command `pefc`.

fn main() {
    println!("pefc {}", env!("CARGO_PKG_VERSION"));
}
