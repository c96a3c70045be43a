//! Signatures: that they form one chain which the footers lead to, and are of seals of this log. Who
//! made them is not judged here.

use super::super::Pack;
use super::super::signatures::read_signatures;
use super::{Layout, Problem, problem};
use crate::format::commit::Commit;
use crate::format::frame::{FrameHeader, FrameKind};
use crate::format::{FormatError, Rule};
use crate::segment::Result;

/// Checks all frames of signatures. `sealed` are the sizes of the log right after its seals.
pub(super) fn verify(pack: &Pack, layout: &Layout, sealed: &[u64]) -> Vec<Problem> {
    let mut newest: Option<&FrameHeader> = None;
    let mut commits = layout.commits.iter();
    let mut problems = Vec::new();
    let mut uncovered = false;
    for header in &layout.frames {
        let checked = match header.kind {
            FrameKind::Signatures => {
                let previous = newest.replace(header);
                uncovered = true;
                let covered = layout.commits.iter().find(|c| c.frame_offset > header.offset);
                check_frame(pack, header, previous, covered, sealed)
            }
            FrameKind::Commit => {
                let commit = commits.by_ref().find(|commit| commit.frame_offset == header.offset);
                commit.map_or(Ok(()), |commit| {
                    check_commit(commit, newest, std::mem::take(&mut uncovered))
                })
            }
            _ => Ok(()),
        };
        problems.extend(checked.err().map(|error| problem(&error, "signatures")));
    }
    problems
}

fn check_frame(
    pack: &Pack,
    header: &FrameHeader,
    newest: Option<&FrameHeader>,
    covered: Option<&Commit>,
    sealed: &[u64],
) -> Result<()> {
    let fault = FormatError::new(Rule::Signature, header.payload_offset());
    let (previous, signatures) = read_signatures(pack, header.offset)?;
    let log_size = covered.map_or(u64::MAX, |commit| commit.log_size);
    let of_seals = signatures
        .iter()
        .all(|signature| signature.log_size <= log_size && sealed.contains(&signature.log_size));
    let chained = previous == newest.map_or(0, |newest| newest.offset);
    if of_seals && chained { Ok(()) } else { Err(fault.into()) }
}

/// A footer names the newest frame of signatures below it; an ordinary commit covers none.
fn check_commit(commit: &Commit, newest: Option<&FrameHeader>, uncovered: bool) -> Result<()> {
    let fault = FormatError::new(Rule::Signature, commit.frame_offset);
    let Some(footer) = &commit.footer else {
        return if uncovered { Err(fault.into()) } else { Ok(()) };
    };
    let stated = footer.section(FrameKind::Signatures).map(|row| (row.frame_offset, row.head_hash));
    let expected = newest.map(|header| (header.offset, header.stored_hash));
    if stated == expected { Ok(()) } else { Err(fault.into()) }
}
