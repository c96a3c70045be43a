//! What the user typed, as types. No side effects.

mod sign;
mod storage;

pub(crate) use storage::{
    BackupCommand, BackupDaemonArgs, BackupListArgs, BackupPruneArgs, BackupRestoreArgs,
    BackupRunArgs, BackupVerifyArgs, CompactArgs, ConfigArgs, ConfigFile, GcArgs, GetArgs,
    KeysArgs, PutArgs, RmArgs, StatArgs, StorageOf, WaitFor,
};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
pub(crate) use sign::{
    AttestArgs, CheckArgs, CountersignArgs, KeygenArgs, ProofFormat, ProveArgs, SignArgs,
    SignersArgs, StatementsArgs,
};
use std::path::PathBuf;

/// Exit codes, for `--help` and the README.
macro_rules! exit_codes {
    () => {
        "\
Exit codes:
   0  done
   1  done, with something to tell: files that could not be read or restored, differences
   2  wrong usage
   3  the system refused something (input or output)
   4  verify: intact, not authenticated; nobody who is trusted has signed
   5  check: proven that it is not there
   6  a proof, signature or key is malformed or wrong
   7  the log was cut back or rewritten since it was last seen
  10  no such file, key, object or generation
  11  another writer has the pack, storage or backup store
  13  the file exists already, or a key is not as expected
  14  the value is of another type
  15  the configuration is wrong
  20  damaged, cut short, or something is missing
  21  not a pack, beyond a limit, or an unsafe path
  25  a later format: use a newer pefc
  30  a write or sync failed: what was not acknowledged may or may not be on disk
  31  no space left
  32  read-only
 130  interrupted
 141  standard output was closed"
    };
}

/// Content-addressed packs: archives in one file that anyone can check.
///
/// A pack holds files under their paths. Every content has its BLAKE3 name (the one `b3sum`
/// prints), is stored once, and is checked whenever it is read. Packs are only ever appended to;
/// every `append` makes a new generation, and old ones stay readable with `--at`.
#[derive(Debug, Parser)]
#[command(
    name = "pefc",
    version,
    after_help = exit_codes!(),
    after_long_help = concat!(
        "Examples:\n",
        "  pefc create src.pefc src             pack a directory\n",
        "  pefc list src.pefc src/lib           what is under a path\n",
        "  pefc cat src.pefc src/lib.rs         one file to standard output\n",
        "  pefc append src.pefc src             a new generation: only changes are written\n",
        "  pefc diff src.pefc src               what changed on disk since then\n",
        "  pefc extract src.pefc -C /tmp/out    get everything back\n",
        "  pefc verify src.pefc                 check every byte and every name\n",
        "  pefc put proofs/one one.lrat         store a value, as pefc.yaml says\n",
        "  pefc get proofs/one                  get it back\n",
        "  pefc backup run                      save all storages\n\n",
        exit_codes!(),
    ),
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    /// Print JSON: one object, or one per line
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,

    /// Say nothing but errors and what was asked for
    #[arg(long, short, global = true, display_order = 901)]
    pub(crate) quiet: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new pack from files and directories
    #[command(after_help = "\
Examples:
  pefc create proofs.pefc proofs                  keys begin with proofs/
  pefc create all.pefc -C /data a b               a and b, found in /data
  pefc create src.pefc . --exclude '*.o' --exclude target
  SOURCE_DATE_EPOCH=0 pefc create r.pefc src --reproducible
  make report | pefc create r.pefc - --stdin-name report.txt")]
    Create(CreateArgs),

    /// Add a new generation to a pack: only what changed is written
    #[command(after_help = "\
Examples:
  pefc append proofs.pefc proofs            new and changed files
  pefc append proofs.pefc proofs --delete   and forget files that are gone
Old generations stay readable: see 'pefc log' and --at.")]
    Append(AppendArgs),

    /// List what a pack holds
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  pefc list proofs.pefc                     every path
  pefc list proofs.pefc proofs/sat -l       mode, owner, size, time, name
  pefc list proofs.pefc --json | jq -r .b3  content names, as b3sum prints them
  pefc list proofs.pefc -0 | xargs -0 ...   paths with any byte in them"
    )]
    List(ListArgs),

    /// Write the content of files to standard output
    #[command(after_help = "\
Examples:
  pefc cat proofs.pefc proofs/one.lrat | lrat-check ...
  pefc cat proofs.pefc --name 6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85
  pefc cat big.pefc big.drat --bytes 1000000..1000100   only that range is read")]
    Cat(CatArgs),

    /// Restore files
    #[command(after_help = "\
Examples:
  pefc extract proofs.pefc                         into this directory
  pefc extract proofs.pefc -C /tmp/out proofs/sat  only that part
  pefc extract proofs.pefc --at 3 -C old           as it was at generation 3
Nothing is ever written outside the target, whatever the pack says.")]
    Extract(ExtractArgs),

    /// Show the generations of a pack, the newest first
    #[command(after_help = "\
Examples:
  pefc log proofs.pefc
  pefc log proofs.pefc --json | jq .map_root
A number that it shows goes to --at of list, cat, extract and diff. Two packs that hold the same
have the same map root.")]
    Log(LogArgs),

    /// Show what differs between packs, generations and directories
    #[command(after_help = "\
Examples:
  pefc diff proofs.pefc proofs              the pack and a directory on disk
  pefc diff old.pefc new.pefc               two packs
  pefc diff proofs.pefc proofs.pefc --at 3  generation 3 and now
Exit code 1 if anything differs.")]
    Diff(DiffArgs),

    /// Show what a pack is made of: frames, ratios, roots
    #[command(after_help = "\
Examples:
  pefc inspect proofs.pefc           totals by kind of frame
  pefc inspect proofs.pefc --frames  every frame with its offset")]
    Inspect(InspectArgs),

    /// Check a pack: every byte, every name, every root
    #[command(after_help = "\
Examples:
  pefc verify proofs.pefc           everything is decoded, named and rebuilt
  pefc verify proofs.pefc --quick   stored bytes only: finds all damage by disk or network
  pefc verify proofs.pefc --trust keys.txt             and who signed it
  pefc verify proofs.pefc --trust keys.txt --known last.checkpoint
Exit code 4 says that the pack is intact; it does not say who made it. Code 0 needs --trust, and that the
newest commit is what was signed.")]
    Verify(VerifyArgs),

    /// Write all that is intact in a damaged pack to a new one
    #[command(after_help = "\
Example:
  pefc recover bad.pefc -o good.pefc
The damaged file is only read. Contents whose paths are lost come back under lost+found/.")]
    Recover(RecoverArgs),

    /// Make a key to sign with
    #[command(after_help = "\
Examples:
  pefc keygen example.org/me -o me.key              a secret key, and me.key.pub for others
  pefc keygen example.org/audit -o audit.key --cosigner
The public key is one line: what others put into a trust file.")]
    Keygen(KeygenArgs),

    /// Sign a pack: its newest generation, and so everything in it
    #[command(after_help = "\
Examples:
  pefc sign proofs.pefc --key me.key
  pefc sign proofs.pefc --key me.key --cose                also for COSE receipts
  pefc sign proofs.pefc --key me.key --detached me.checkpoint
  pefc sign proofs.pefc --detached text                    to be signed elsewhere:
  ssh-keygen -Y sign -n pefc-checkpoint -f ~/.ssh/id_ed25519 text
  pefc countersign proofs.pefc --import text.sig
The signature is a C2SP signed note over the checkpoint. It is stored beside the log: nothing that is in
the pack changes.")]
    Sign(SignArgs),

    /// Show who must sign a log, or change it
    #[command(after_help = "\
Examples:
  pefc signers proofs.pefc                                       who must sign
  pefc signers proofs.pefc --set new.key.pub --sign old.key      the old one hands over
  pefc signers proofs.pefc --set new.key.pub --revoke old.key.pub --last-good 1200 --sign old.key
Whoever trusts the old signers follows the change, if the seal after it is signed by them.")]
    Signers(SignersArgs),

    /// Verify a pack and vouch for it, or add signatures that were made elsewhere
    #[command(after_help = "\
Examples:
  pefc countersign proofs.pefc --key audit.key --trust signer.pub
  pefc countersign proofs.pefc --import me.checkpoint")]
    Countersign(CountersignArgs),

    /// Write a proof about a signed pack, in one small file
    #[command(after_help = "\
Examples:
  pefc prove proofs.pefc sat/php-10.lrat -o php.proof     it was recorded
  pefc prove proofs.pefc sat/php-10.lrat --live           it is what that key has now
  pefc prove proofs.pefc sat/php-11.lrat --absent         there is no such key
  pefc prove proofs.pefc --all-under sat/                 all keys there, and no other
  pefc prove proofs.pefc big.drat --range 1000..2000      a part of it, with its bytes
  pefc prove proofs.pefc --since 1200                     the log only grew since that size
No key is needed: the signatures are those in the pack.")]
    Prove(ProveArgs),

    /// Check a proof, without the pack
    #[command(after_help = "\
Examples:
  pefc check php.proof --trust keys.txt
  pefc check php.proof php-10.lrat --trust keys.txt       and that this file is what it is about
  pefc check new.consistency --trust keys.txt --known old.checkpoint
Exit code 0: proven. 5: proven that it is absent. 4: nobody who is trusted has signed. 6: wrong.")]
    Check(CheckArgs),

    /// Sign a statement about a content, or the pack, and store it in the pack
    #[command(after_help = "\
Examples:
  pefc attest proofs.pefc sat/php-10.lrat --predicate-type https://in-toto.io/attestation/test-result/v0.1 \\
       --predicate result.json --key me.key
  pefc attest proofs.pefc --predicate-type https://slsa.dev/provenance/v1 --predicate p.json --key me.key
It is an in-toto Statement v1 in a DSSE envelope, stored under its subject in the system space.")]
    Attest(AttestArgs),

    /// Show the statements in a pack, and who signed them
    #[command(after_help = "\
Examples:
  pefc statements proofs.pefc --trust keys.txt
  pefc statements proofs.pefc sat/php-10.lrat --trust keys.txt --json
  pefc statements proofs.pefc --export DIR       each as a .dsse.json file
Exit code 4: one at least is signed by nobody who is trusted.")]
    Statements(StatementsArgs),
    /// Store a value under a key
    #[command(after_help = "\
Examples:
  pefc put proofs/one one.lrat            a file
  make proof | pefc put proofs/two        standard input
  echo '{\"n\": 7}' | pefc put state/n --value
  pefc put lock/host me.txt --new         only if nobody was faster (else exit code 13)")]
    Put(PutArgs),

    /// Print the value of a key
    #[command(after_help = "\
Examples:
  pefc get proofs/one > one.lrat
  pefc get state/n --value                a typed value, as JSON
  pefc get proofs/one --storage cache
Exit code 10 if the key is not there, 20 if its value is damaged.")]
    Get(GetArgs),

    /// Delete keys
    Rm(RmArgs),

    /// List the keys of a storage
    #[command(after_help = "\
Examples:
  pefc keys                               all keys of the default storage
  pefc keys proofs/ -l                    size, time, content name and key
  pefc keys --json | jq -r .key")]
    Keys(KeysArgs),

    /// Show what a key stands for, or how storages and backups are
    #[command(after_help = "\
Examples:
  pefc stat                               every storage, the content store, backups
  pefc stat proofs/one                    one key
  pefc stat --prometheus > /var/lib/node_exporter/pefc.prom")]
    Stat(StatArgs),

    /// Remove contents that no key stands for any more
    Gc(GcArgs),

    /// Lay out packs and storages anew: smaller, with one index, without what nothing names
    #[command(after_help = "\
Examples:
  pefc compact proofs.pefc            one pack; its log, roots and signatures stay
  pefc compact state.pefc --rebase    what is live, in a new log: old values go
  pefc compact                        the packs and the content store of the configuration
The new file takes the place of the old one when it is whole. There must be room for both.")]
    Compact(CompactArgs),

    /// Make, list, verify, restore and prune backups
    #[command(after_help = "\
Examples:
  pefc backup run                         now
  pefc backup run --if-due                from a timer: only if the schedule says so
  pefc backup list
  pefc backup verify latest
  pefc backup restore latest --storage file --key proofs/one
  pefc backup prune --dry-run             what would go, and why")]
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },

    /// Check the configuration of storages and backups, or show what it means
    #[command(after_help = "\
Examples:
  pefc config --check                    is ./pefc.yaml right?
  pefc config --show --config my.yaml    with every default, variable and path filled in
  pefc config --defaults > pefc.yaml     one to begin with")]
    Config(ConfigArgs),

    /// Print completions for a shell
    #[command(after_help = "\
Example:
  pefc completions bash > ~/.local/share/bash-completion/completions/pefc")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WriteArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Files and directories; `-` is standard input
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// Change to this directory before looking for PATHS
    #[arg(short = 'C', long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Leave out what matches this glob: a name, or with `/` a whole path (may be given again)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,

    /// zstd level, 1 to 19
    #[arg(long, short, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub(crate) level: i32,

    /// Threads (the bytes of the pack do not depend on it) [default: all cores]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,

    /// Path in the pack for standard input
    #[arg(long, value_name = "KEY", default_value = "stdin")]
    pub(crate) stdin_name: String,

    /// Which owners to record
    #[arg(long, value_enum, default_value_t = Owners::Both)]
    pub(crate) owners: Owners,

    /// Record nothing that differs between machines: no owners, modes 644 and 755, times from
    /// SOURCE_DATE_EPOCH or 0
    #[arg(long)]
    pub(crate) reproducible: bool,

    /// Also record the SHA-256 of every content
    #[arg(long)]
    pub(crate) sha256: bool,

    /// Record this time in the seal: seconds since 1970, or `now` [default: SOURCE_DATE_EPOCH, else
    /// none, so that the same input gives the same pack]
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,

    /// Sign the new generation with this secret key, in its own commit
    #[arg(long, value_name = "KEY")]
    pub(crate) sign: Option<PathBuf>,

    /// How much content is compressed together, in KiB, about: more makes the pack smaller, less reads
    /// single files faster [default: 1024]
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(64..=8192))]
    pub(crate) frame: Option<u32>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,

    /// Name of the log in signatures, such as example.org/proofs [default: pefc/ and its nonce]
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) origin: String,

    /// A verifier key, or a file with one, of who must sign this log (may be given again)
    #[arg(long, value_name = "VKEY")]
    pub(crate) signer: Vec<String>,

    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1, requires = "signer")]
    pub(crate) threshold: u64,

    /// Replace an existing pack
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,

    /// Delete keys under PATHS whose files are gone (old generations keep them)
    #[arg(long)]
    pub(crate) delete: bool,

    /// Read every file, even if its size, time and other attributes are unchanged
    #[arg(long)]
    pub(crate) check_content: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Owners {
    /// Numbers and names
    Both,
    /// Numbers only
    Numeric,
    /// None
    None,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Only paths that begin with this
    pub(crate) prefix: Option<std::ffi::OsString>,

    /// Mode, owner, size, time and content name too
    #[arg(long, short)]
    pub(crate) long: bool,

    /// End names with NUL and escape nothing
    #[arg(long, short = '0')]
    pub(crate) null: bool,

    /// List another space of keys
    #[arg(long, value_enum, default_value_t = Space::Path)]
    pub(crate) space: Space,

    /// As it was at this generation
    #[arg(long, value_name = "N")]
    pub(crate) at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Space {
    /// Archived files
    Path,
    /// Keys of a storage
    Storage,
    /// Attestations and system keys
    System,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CatArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Paths in the pack
    #[arg(required_unless_present = "name")]
    pub(crate) keys: Vec<std::ffi::OsString>,

    /// A content name (BLAKE3) instead of a path
    #[arg(long, value_name = "B3", conflicts_with = "keys")]
    pub(crate) name: Option<pefc::Hash>,

    /// Only these bytes: START..END, either may be left out
    #[arg(long, value_name = "RANGE")]
    pub(crate) bytes: Option<String>,

    /// Look in another space of keys
    #[arg(long, value_enum, default_value_t = Space::Path)]
    pub(crate) space: Space,

    /// As it was at this generation
    #[arg(long, value_name = "N")]
    pub(crate) at: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExtractArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Paths in the pack, each with all below it [default: everything]
    pub(crate) keys: Vec<std::ffi::OsString>,

    /// Extract into this directory; it is made if need be
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,

    /// Replace files that exist
    #[arg(long)]
    pub(crate) force: bool,

    /// Remove this many leading parts from every path
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) strip_components: usize,

    /// Restore owners, setuid bits and devices [default for root]
    #[arg(long, overrides_with = "no_owner")]
    pub(crate) owner: bool,

    /// Restore no owners, setuid bits or devices
    #[arg(long)]
    pub(crate) no_owner: bool,

    /// Go on past damaged contents and restore the rest
    #[arg(long)]
    pub(crate) keep_going: bool,

    /// As it was at this generation
    #[arg(long, value_name = "N")]
    pub(crate) at: Option<u64>,

    /// Threads [default: all cores]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LogArgs {
    /// The pack
    pub(crate) pack: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DiffArgs {
    /// The old side: a pack
    pub(crate) old: PathBuf,

    /// The new side: a pack or a directory
    pub(crate) new: PathBuf,

    /// The old side as it was at this generation
    #[arg(long, value_name = "N")]
    pub(crate) at: Option<u64>,

    /// The new pack as it was at this generation
    #[arg(long, value_name = "N")]
    pub(crate) new_at: Option<u64>,

    /// Leave out what matches this glob (may be given again)
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Show every frame
    #[arg(long)]
    pub(crate) frames: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Check stored bytes only, at the speed of reading
    #[arg(long, conflicts_with = "trust")]
    pub(crate) quick: bool,

    /// Whom to trust: a file with a verifier key a line, or a C2SP policy
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,

    /// Accept only the log of this name
    #[arg(long, value_name = "NAME", requires = "trust")]
    pub(crate) origin: Option<String>,

    /// The map root that the newest generation must have
    #[arg(long, value_name = "HEX")]
    pub(crate) expect_root: Option<String>,

    /// Neither hold the pack to the head of its log that was verified here before, nor remember this
    /// one
    #[arg(long, requires = "trust")]
    pub(crate) no_memory: bool,

    /// A checkpoint of this log that is known from before: it must have grown from there
    #[arg(long, value_name = "FILE")]
    pub(crate) known: Option<PathBuf>,

    /// Threads [default: all cores]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RecoverArgs {
    /// The damaged pack
    pub(crate) bad: PathBuf,

    /// The new pack
    #[arg(short, long, value_name = "NEW")]
    pub(crate) output: PathBuf,

    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
}
