//! The command line: arguments in, a report out, one table of exit codes.
//!
//! Built on what every user of the library has (`pefc::`); no file is touched here but through it.

mod args;
mod attest;
mod backup;
mod config;
mod diff;
mod events;
mod extract;
mod inspect;
mod known;
mod output;
mod prove;
mod read;
mod sign;
mod stat;
mod stdin;
mod storage;
mod upkeep;
mod verify;
mod write;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use output::Output;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How a command ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All is done.
    Done,
    /// Done, with something to tell: files that could not be read or restored, differences.
    Partial,
    /// A pack that is intact; nobody vouches for who made it.
    NotAuthenticated,
    /// Proven: it is not there.
    Absent,
    /// A pack that is damaged.
    Damaged,
}

impl Outcome {
    const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Partial => 1,
            Self::NotAuthenticated => 4,
            Self::Absent => 5,
            Self::Damaged => 20,
        }
    }
}

/// Why a command ended early.
#[derive(Debug)]
enum Failure {
    /// The library said no.
    Pefc(pefc::Error),
    /// Standard output or input failed.
    Stream(std::io::Error),
}

impl From<pefc::Error> for Failure {
    fn from(error: pefc::Error) -> Self {
        Self::Pefc(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Stream(error)
    }
}

type Result<T = Outcome> = std::result::Result<T, Failure>;

/// What a shell reports of a program that a broken pipe ended.
const BROKEN_PIPE: u8 = 141;

/// Runs the command and says how it went.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    pefc::disk::exit_on_bus_error(
        "error[truncated]: a file was cut by another program while it was read\n",
        20,
    );
    let cancelled = Arc::new(AtomicBool::new(false));
    // Who only reads has nothing to clean up: a signal ends it at once.
    // What a storage or a backup has acknowledged survives that too; a daemon ends its round.
    let must_end_well = match &args.command {
        Command::Create(_)
        | Command::Append(_)
        | Command::Extract(_)
        | Command::Recover(_)
        | Command::Compact(_)
        | Command::Put(_) => true,
        Command::Backup { command } => matches!(command, args::BackupCommand::Daemon(_)),
        _ => false,
    };
    if must_end_well {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second one ends the process as if nothing were installed.
            let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&cancelled));
            let _ = signal_hook::flag::register(signal, Arc::clone(&cancelled));
        }
    }
    let mut output = Output::new(&args);
    let result = run(args.command, &mut output, &cancelled).and_then(|outcome| {
        output.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(Failure::Stream(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::from(BROKEN_PIPE) // who reads has seen enough
        }
        Err(Failure::Stream(error)) => {
            let error = pefc::Error::new(pefc::ErrorKind::Io, "standard output").because(error);
            output.error(&error);
            ExitCode::from(error.kind().exit_code())
        }
        Err(Failure::Pefc(error)) => {
            output.error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn run(command: Command, output: &mut Output, cancelled: &Arc<AtomicBool>) -> Result {
    match command {
        Command::Create(args) => write::create(&args, output, cancelled),
        Command::Append(args) => write::append(&args, output, cancelled),
        Command::List(args) => read::list(&args, output),
        Command::Cat(args) => read::cat(&args),
        Command::Extract(args) => extract::extract(&args, output, cancelled),
        Command::Log(args) => read::log(&args, output),
        Command::Diff(args) => diff::diff(&args, output),
        Command::Inspect(args) => inspect::inspect(&args, output),
        Command::Verify(args) => verify::verify(&args, output),
        Command::Recover(args) => verify::recover(&args, output, cancelled),
        Command::Keygen(args) => sign::keygen(&args, output),
        Command::Sign(args) => sign::sign(&args, output),
        Command::Signers(args) => sign::signers(&args, output),
        Command::Countersign(args) => sign::countersign(&args, output),
        Command::Prove(args) => prove::prove(&args, output),
        Command::Check(args) => prove::check(&args, output),
        Command::Attest(args) => attest::attest(&args, output),
        Command::Statements(args) => attest::statements(&args, output),
        Command::Put(args) => storage::put(&args, output, cancelled),
        Command::Get(args) => storage::get(&args, output),
        Command::Rm(args) => storage::rm(&args, output),
        Command::Keys(args) => storage::keys(&args, output),
        Command::Stat(args) => stat::stat(&args, output),
        Command::Gc(args) => upkeep::gc(&args, output),
        Command::Compact(args) => upkeep::compact(&args, output, cancelled),
        Command::Backup { command } => backup::backup(&command, output, cancelled),
        Command::Config(args) => config::config(&args, output),
        Command::Completions { shell } => {
            let mut script = Vec::new(); // it panics where a stream fails
            clap_complete::generate(shell, &mut Args::command(), "pefc", &mut script);
            output.bytes(&script)?;
            Ok(Outcome::Done)
        }
    }
}
