//! What is recorded of a file.

use crate::disk::tree::{FileKind as DiskKind, Metadata, group_name, user_name};
use crate::format::entry::{Attributes, FileKind, FileTime};
use std::borrow::Cow;

/// Which owners are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerRecording {
    /// Numbers, and names where `/etc/passwd` and `/etc/group` know them.
    #[default]
    Full,
    /// Numbers only.
    Numeric,
    /// No owners.
    None,
}

/// What is recorded of each file besides its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordOptions {
    /// Which owners are recorded.
    pub owner: OwnerRecording,
    /// Later times of modification are replaced by this one (`SOURCE_DATE_EPOCH`).
    pub mtime_max_s: Option<i64>,
    /// Whether all that varies between equal checkouts is left out: no owners, modes are 0644 or
    /// 0755, all times are [`RecordOptions::mtime_max_s`] or 0.
    pub reproducible: bool,
}

impl RecordOptions {
    /// The attributes of a file; a link's target isn't there yet.
    pub(super) fn attributes(&self, metadata: &Metadata) -> Attributes<'static> {
        let kind = kind_of(metadata.kind);
        let with_owner = !self.reproducible && self.owner != OwnerRecording::None;
        let with_names = with_owner && self.owner == OwnerRecording::Full;
        let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        Attributes {
            kind,
            // A symbolic link has no permissions of its own.
            mode: (kind != FileKind::Symlink).then(|| self.mode(metadata)),
            uid: with_owner.then_some(metadata.uid),
            gid: with_owner.then_some(metadata.gid),
            user: user_name(metadata.uid).filter(|_| with_names).map(Cow::Borrowed),
            group: group_name(metadata.gid).filter(|_| with_names).map(Cow::Borrowed),
            mtime: Some(self.mtime(metadata)),
            target: None,
            device: is_device.then_some((metadata.rdev_major, metadata.rdev_minor)),
            ..Attributes::default()
        }
    }

    fn mode(&self, metadata: &Metadata) -> u32 {
        if !self.reproducible {
            return metadata.mode;
        }
        let runs = metadata.kind == DiskKind::Directory || metadata.mode & 0o100 != 0;
        if runs { 0o755 } else { 0o644 }
    }

    fn mtime(&self, metadata: &Metadata) -> FileTime {
        let fixed = |seconds| FileTime { seconds, nanoseconds: 0 };
        if self.reproducible {
            return fixed(self.mtime_max_s.unwrap_or(0));
        }
        let found = FileTime { seconds: metadata.mtime_s, nanoseconds: metadata.mtime_ns };
        match self.mtime_max_s {
            Some(most) => found.min(fixed(most)),
            None => found,
        }
    }
}

fn kind_of(kind: DiskKind) -> FileKind {
    match kind {
        DiskKind::File => FileKind::File,
        DiskKind::Directory => FileKind::Directory,
        DiskKind::Symlink => FileKind::Symlink,
        DiskKind::Fifo => FileKind::Fifo,
        DiskKind::Socket => FileKind::Socket,
        DiskKind::CharDevice => FileKind::CharDevice,
        DiskKind::BlockDevice => FileKind::BlockDevice,
    }
}
