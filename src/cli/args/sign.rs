//! Arguments of signing, proving and checking.

use super::Space;
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub(crate) struct KeygenArgs {
    /// Name of the key: best a URL without scheme, such as example.org/me
    pub(crate) name: String,

    /// Where the secret key goes; the public one gets .pub behind it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// A key to countersign with, as witness or auditor
    #[arg(long)]
    pub(crate) cosigner: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SignArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// The secret key; without one only --detached, for the text to be signed elsewhere
    #[arg(long, value_name = "FILE", required_unless_present = "detached")]
    pub(crate) key: Option<PathBuf>,

    /// Name of the log in the signature [default: the one that it was created with]
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,

    /// Sign the root for COSE receipts too
    #[arg(long, conflicts_with = "detached")]
    pub(crate) cose: bool,

    /// Sign as SSH does too, for `ssh-keygen -Y verify`; with --detached the file is the plain text,
    /// and its signature gets .sig behind it
    #[arg(long, requires = "key")]
    pub(crate) ssh: bool,

    /// Write the signed checkpoint to this file, and nothing to the pack
    #[arg(long, value_name = "FILE")]
    pub(crate) detached: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CountersignArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// The secret key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,

    /// Vouch only for what these have signed
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,

    /// Name of the log in the signature [default: the one that it was created with]
    #[arg(long, value_name = "NAME", conflicts_with = "trust")]
    pub(crate) origin: Option<String>,

    /// Write the signed checkpoint to this file, and nothing to the pack
    #[arg(long, value_name = "FILE")]
    pub(crate) detached: Option<PathBuf>,

    /// Add the signatures of this note, or this SSH signature
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "detached"])]
    pub(crate) import: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProofFormat {
    /// C2SP text
    C2sp,
    /// A COSE receipt (RFC 9942)
    Cose,
}

#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("what").args(["live", "absent", "all_under", "range", "since"]))]
pub(crate) struct ProveArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// A path in the pack
    #[arg(conflicts_with_all = ["all_under", "since", "content"])]
    pub(crate) key: Option<std::ffi::OsString>,

    /// A content name (BLAKE3) instead of a path: that it is live, or with --absent that it is not
    #[arg(long, value_name = "B3", conflicts_with_all = ["all_under", "range", "since"])]
    pub(crate) content: Option<pefc::Hash>,

    /// That it is what the key has at the signed generation, not only that it was recorded
    #[arg(long)]
    pub(crate) live: bool,

    /// That it is not there
    #[arg(long)]
    pub(crate) absent: bool,

    /// All keys that begin with this, and that there are no others
    #[arg(long, value_name = "PREFIX")]
    pub(crate) all_under: Option<std::ffi::OsString>,

    /// These bytes of the content, START..END, with the bytes themselves
    #[arg(long, value_name = "RANGE")]
    pub(crate) range: Option<String>,

    /// That the log only grew since it had this many entries
    #[arg(long, value_name = "SIZE")]
    pub(crate) since: Option<u64>,

    /// Keys are of this space
    #[arg(long, value_enum, default_value_t = Space::Path)]
    pub(crate) space: Space,

    /// Format of the proof that a key was recorded
    #[arg(long, value_enum, default_value_t = ProofFormat::C2sp, conflicts_with = "what")]
    pub(crate) format: ProofFormat,

    /// Of this generation [default: the newest that is signed]
    #[arg(long, value_name = "N")]
    pub(crate) at: Option<u64>,

    /// Where the proof goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CheckArgs {
    /// The proof
    pub(crate) proof: PathBuf,

    /// A file that must be the content, or the range of it, that the proof is about
    pub(crate) file: Option<PathBuf>,

    /// Whom to trust: a file with a verifier key a line, or a C2SP policy
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: PathBuf,

    /// Accept only the log of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) origin: Option<String>,

    /// The old checkpoint, for a proof that the log grew from it
    #[arg(long, value_name = "FILE")]
    pub(crate) known: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AttestArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// The path whose content it is about [default: the pack, as its newest checkpoint]
    pub(crate) content_key: Option<std::ffi::OsString>,

    /// What kind of predicate it is: a URI
    #[arg(long, value_name = "URI")]
    pub(crate) predicate_type: String,

    /// The predicate: a JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) predicate: PathBuf,

    /// The secret key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StatementsArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// Only those about the content of this path
    pub(crate) content_key: Option<std::ffi::OsString>,

    /// Whom to trust: a file with a verifier key a line, or a C2SP policy
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,

    /// Write each envelope to a file in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) export: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SignersArgs {
    /// The pack
    pub(crate) pack: PathBuf,

    /// A verifier key, or a file with one, of the new signers (may be given again)
    #[arg(long, value_name = "VKEY")]
    pub(crate) set: Vec<String>,

    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1, requires = "set")]
    pub(crate) threshold: u64,

    /// A key that is no longer trusted (may be given again)
    #[arg(long, value_name = "VKEY", requires = "set", requires = "last_good")]
    pub(crate) revoke: Vec<String>,

    /// The last log size up to which its signatures are good
    #[arg(long, value_name = "SIZE")]
    pub(crate) last_good: Option<u64>,

    /// Sign the change with this secret key, of a signer before it
    #[arg(long, value_name = "KEY", requires = "set")]
    pub(crate) sign: Option<PathBuf>,
}
