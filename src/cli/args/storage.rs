//! Arguments of the commands that work with a configuration.

use clap::{ArgGroup, Args as ClapArgs, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Where the configuration is.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ConfigFile {
    /// The configuration [default: $PEFC_CONFIG, else pefc.yaml in this directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Tell on standard error, a JSON line each, what is stored, retrieved, deleted, found damaged
    /// and backed up
    #[arg(long)]
    pub(crate) events: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    #[command(flatten)]
    pub(crate) what: ConfigWhat,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub(crate) struct ConfigWhat {
    /// Say whether it is right
    #[arg(long)]
    pub(crate) check: bool,

    /// Print all of it, with defaults, variables and paths filled in
    #[arg(long)]
    pub(crate) show: bool,

    /// Print what holds without a configuration
    #[arg(long)]
    pub(crate) defaults: bool,
}

/// Which storage.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct StorageOf {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    /// The storage [default: `default_storage` of the configuration]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) storage: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) of: StorageOf,

    /// The key: 1 to 4,096 bytes, any
    pub(crate) key: OsString,

    /// Where the value comes from; `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,

    /// It is JSON: store it as a typed value, in canonical CBOR
    #[arg(long)]
    pub(crate) value: bool,

    /// Only if the key is not there yet
    #[arg(long, conflicts_with = "expect")]
    pub(crate) new: bool,

    /// Only if the key stands for this content now (BLAKE3)
    #[arg(long, value_name = "B3")]
    pub(crate) expect: Option<pefc::Hash>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) of: StorageOf,

    /// The key
    pub(crate) key: OsString,

    /// It is a typed value: print it as JSON
    #[arg(long)]
    pub(crate) value: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) of: StorageOf,

    /// The keys; all go, or none
    #[arg(required = true)]
    pub(crate) keys: Vec<OsString>,

    /// A key that is not there is no error
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub(crate) of: StorageOf,

    /// Only keys that begin with this
    #[arg(default_value = "")]
    pub(crate) prefix: OsString,

    /// Size, time and content name too
    #[arg(long, short)]
    pub(crate) long: bool,

    /// End keys with NUL and escape nothing
    #[arg(long, short = '0')]
    pub(crate) null: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StatArgs {
    #[command(flatten)]
    pub(crate) of: StorageOf,

    /// One key instead of everything
    pub(crate) key: Option<OsString>,

    /// Print metrics for Prometheus
    #[arg(long, conflicts_with = "key")]
    pub(crate) prometheus: bool,
}

/// How long to wait for those who write.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct WaitFor {
    /// Wait so long for batches that are being written; what is left then goes with the next run
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u32,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    #[command(flatten)]
    pub(crate) wait: WaitFor,

    /// Only say what would go
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    /// Rewrite files of which more than this percentage is of no use
    #[arg(long, value_name = "PERCENT", default_value_t = 30, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) dead: u8,

    /// Give up a storage that is gone: what only it named may go
    #[arg(long, value_name = "PATH")]
    pub(crate) forget_root: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompactArgs {
    /// Packs to lay out anew; without any, the storages of the configuration
    #[arg(value_name = "PACK")]
    pub(crate) packs: Vec<PathBuf>,

    /// Begin a new log that holds what is live: history, signatures and proofs of the old one end
    #[arg(long)]
    pub(crate) rebase: bool,

    /// zstd level of what is compressed again, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) level: i32,

    #[command(flatten)]
    pub(crate) file: ConfigFile,

    #[command(flatten)]
    pub(crate) wait: WaitFor,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup now, verify it, and let go of old ones
    Run(BackupRunArgs),
    /// List the snapshots that there are
    List(BackupListArgs),
    /// Read snapshots whole, to say whether they can be restored
    Verify(BackupVerifyArgs),
    /// Restore everything, one storage or one key
    Restore(BackupRestoreArgs),
    /// Let go of old snapshots, as `retention` says
    Prune(BackupPruneArgs),
    /// Make backups when they are due, until stopped
    Daemon(BackupDaemonArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupRunArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    /// Do nothing unless the schedule says that one is due
    #[arg(long)]
    pub(crate) if_due: bool,

    /// Keep old snapshots, whatever `retention` says
    #[arg(long)]
    pub(crate) no_prune: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupListArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupVerifyArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    /// The snapshots, by the beginning of their names, or `latest` [default: all]
    pub(crate) snapshots: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupRestoreArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    /// The snapshot, by the beginning of its name, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) snapshot: String,

    /// Only this storage
    #[arg(long, short, value_name = "NAME")]
    pub(crate) storage: Option<String>,

    /// Only this key of that storage
    #[arg(long, value_name = "KEY", requires = "storage")]
    pub(crate) key: Option<OsString>,

    /// Into this storage instead of the one it was in
    #[arg(long, value_name = "NAME", requires = "storage")]
    pub(crate) into: Option<String>,

    /// Delete keys that the snapshot does not have, so that the storage is as it was
    #[arg(long, conflicts_with = "key")]
    pub(crate) exact: bool,
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("one").args(["dry_run", "forget"]))]
pub(crate) struct BackupPruneArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,

    #[command(flatten)]
    pub(crate) wait: WaitFor,

    /// Only say what would go, and why
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,

    /// Believe the clock, whatever the times of the snapshots are
    #[arg(long)]
    pub(crate) trust_clock: bool,

    /// Let this snapshot go first (its whole name), whatever `retention` says; also one that is damaged
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) forget: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupDaemonArgs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}
