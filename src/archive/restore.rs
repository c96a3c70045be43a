//! One entry onto the disk: its content, and as much of its attributes as can be had.

use super::extract::{ExtractOptions, ExtractProblemKind, ExtractReport, NotRestored, Overwrite};
use super::{Progress, check_cancel};
use crate::chunk::WHOLE_BYTES_MAX;
use crate::disk::tree::{
    Attributes as DiskAttributes, TargetDir, TargetFile, TreeError, group_id, user_id,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Attributes, Content, FileKind};
use crate::pack::Pack;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something of a file that is not its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// User and group.
    Owner,
    /// Setuid, setgid and sticky bits.
    SpecialBits,
    /// Time of last modification.
    Mtime,
    /// Permissions.
    Mode,
    /// The file itself: a socket, or a device that was not asked for.
    Node,
}

impl Property {
    /// The name in messages and in `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::SpecialBits => "setuid, setgid and sticky bits",
            Self::Mtime => "time",
            Self::Mode => "mode",
            Self::Node => "socket or device",
        }
    }
}

/// A file to write.
pub(super) struct FileJob {
    pub(super) key: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) content: Content,
    pub(super) attributes: Attributes<'static>,
}

/// Something without content, to be made after all files.
pub(super) struct Deferred {
    pub(super) key: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) attributes: Attributes<'static>,
}

/// Why a file was not written.
enum Failure {
    Disk(TreeError),
    Content(Error),
}

impl<E: Into<TreeError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Disk(error.into())
    }
}

pub(super) struct Restorer<'a> {
    pub(super) pack: &'a Pack,
    pub(super) dir: &'a TargetDir,
    pub(super) options: &'a ExtractOptions,
    pub(super) progress: &'a dyn Progress,
}

impl Restorer<'_> {
    /// The path of a key; none if nothing is left of it.
    pub(super) fn strip<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let mut rest = key;
        for _ in 0..self.options.strip_components {
            let slash = rest.iter().position(|byte| *byte == b'/')?;
            rest = rest.get(slash + 1..)?;
        }
        Some(rest)
    }

    /// Whether an error is about bytes of the pack.
    pub(super) fn is_damage(error: &Error) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Corrupt | ErrorKind::Truncated | ErrorKind::Missing | ErrorKind::Limit
        )
    }

    /// Notes that a path could not be made; an error if none could.
    pub(super) fn failed(
        &self,
        key: &[u8],
        error: TreeError,
        report: &mut ExtractReport,
    ) -> Result<()> {
        let kind = match &error {
            TreeError::UnsafePath(_) => ExtractProblemKind::UnsafePath,
            TreeError::Io(source) => match source.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem => {
                    let path = String::from_utf8_lossy(key);
                    let source = io::Error::new(source.kind(), error.to_string());
                    return Err(Error::io("extracting", Path::new(path.as_ref()), source));
                }
                io::ErrorKind::AlreadyExists
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory => ExtractProblemKind::Exists,
                io::ErrorKind::PermissionDenied => ExtractProblemKind::Permission,
                io::ErrorKind::Unsupported => ExtractProblemKind::Unsupported,
                _ => ExtractProblemKind::Io,
            },
        };
        report.problem(key, kind, error);
        Ok(())
    }

    /// Writes a run of files until it is told to stop.
    pub(super) fn files(
        &self,
        run: Vec<FileJob>,
        stop: &AtomicBool,
        report: &mut ExtractReport,
    ) -> Result<()> {
        for job in &run {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            check_cancel(self.options.cancel.as_deref())?;
            self.file(job, report)?;
        }
        Ok(())
    }

    fn file(&self, job: &FileJob, report: &mut ExtractReport) -> Result<bool> {
        match self.write(job, report) {
            Ok(()) => {
                report.file_count += 1;
                report.content_bytes += job.content.len;
                self.progress.advance(1, 0);
                Ok(true)
            }
            Err(Failure::Disk(error)) => {
                self.progress.advance(1, 0);
                self.failed(&job.key, error, report).map(|()| false)
            }
            Err(Failure::Content(error)) => {
                if !self.options.keep_going_on_damage || !Self::is_damage(&error) {
                    return Err(error);
                }
                let kind = match error.kind() {
                    ErrorKind::Missing => ExtractProblemKind::Missing,
                    _ => ExtractProblemKind::Corrupt,
                };
                report.problem(&job.key, kind, error);
                self.progress.advance(1, 0);
                Ok(false)
            }
        }
    }

    fn write(&self, job: &FileJob, report: &mut ExtractReport) -> std::result::Result<(), Failure> {
        let Content { name, len } = job.content;
        let missing = || Failure::Content(Error::missing(&name, "though an entry names it"));
        let check = |found: u64| {
            if found == len {
                return Ok(());
            }
            let what = format!("object {name} has {found} bytes and an entry says {len}");
            Err(Failure::Content(Error::new(ErrorKind::Corrupt, what)))
        };
        let file = if len <= WHOLE_BYTES_MAX as u64 {
            // The content first: a path is not touched for what can't be read.
            let content = self.pack.object(&name).map_err(Failure::Content)?;
            let content = content.ok_or_else(missing)?;
            check(content.len() as u64)?;
            let file = self.create(&job.path)?;
            file.write_all(&content)?;
            self.progress.advance(0, len);
            file
        } else {
            let reader = self.pack.object_reader(&name).map_err(Failure::Content)?;
            let mut reader = reader.ok_or_else(missing)?;
            check(reader.len())?;
            let file = self.create(&job.path)?;
            let mut failed = None;
            let copied = reader.copy_to(|part| {
                check_cancel(self.options.cancel.as_deref())?;
                self.progress.advance(0, part.len() as u64);
                file.write_all(part).map_err(|error| {
                    let stop = Error::new(ErrorKind::Io, "writing a file");
                    failed = Some(error);
                    stop
                })
            });
            match (failed, copied) {
                (Some(error), _) => return Err(error.into()),
                (None, copied) => copied.map_err(Failure::Content)?,
            };
            file
        };
        self.give(&job.key, &job.attributes, 0o644, report, |new| Ok(file.set_metadata(new)?));
        Ok(file.finish()?)
    }

    fn create(&self, path: &[u8]) -> std::result::Result<TargetFile, TreeError> {
        match self.dir.create_file(path) {
            Err(TreeError::Io(error))
                if self.options.overwrite == Overwrite::Replace
                    && error.kind() == io::ErrorKind::AlreadyExists =>
            {
                self.dir.replace_file(path)
            }
            result => result,
        }
    }

    /// Gives attributes by `set`, and if it refuses as many of them as it takes.
    fn give(
        &self,
        key: &[u8],
        attributes: &Attributes<'_>,
        default_mode: u32,
        report: &mut ExtractReport,
        set: impl Fn(&DiskAttributes) -> std::result::Result<(), TreeError>,
    ) {
        let mode = attributes.mode.unwrap_or(default_mode);
        let mut new = DiskAttributes {
            mode: Some(mode & !self.options.umask),
            special_bits: self.options.special_bits,
            owner: self.owner(attributes),
            mtime: self.mtime(attributes),
        };
        let mut missing = Vec::new();
        if mode & 0o7000 != 0 && !new.special_bits {
            missing.push(Property::SpecialBits);
        }
        let mut is_set = set(&new).is_ok();
        if !is_set && (new.owner.is_some() || (new.special_bits && mode & 0o7000 != 0)) {
            missing.extend(new.owner.take().map(|_| Property::Owner));
            if std::mem::take(&mut new.special_bits) && mode & 0o7000 != 0 {
                missing.push(Property::SpecialBits);
            }
            is_set = set(&new).is_ok();
        }
        if !is_set && new.mtime.take().is_some() {
            missing.push(Property::Mtime);
            is_set = set(&new).is_ok();
        }
        if !is_set {
            missing.push(Property::Mode);
        }
        let key = || key.to_vec();
        report
            .not_restored
            .extend(missing.into_iter().map(|what| NotRestored { key: key(), what }));
    }

    fn owner(&self, attributes: &Attributes<'_>) -> Option<(u32, u32)> {
        if !self.options.restore_owner {
            return None;
        }
        let by_name = !self.options.numeric_owner;
        let user = attributes.user.as_deref().filter(|_| by_name);
        let group = attributes.group.as_deref().filter(|_| by_name);
        let uid = user.and_then(user_id).or(attributes.uid)?;
        let gid = group.and_then(group_id).or(attributes.gid)?;
        Some((uid, gid))
    }

    fn mtime(&self, attributes: &Attributes<'_>) -> Option<(i64, u32)> {
        let mtime = attributes.mtime.filter(|_| self.options.mtime)?;
        Some((mtime.seconds, mtime.nanoseconds))
    }

    /// Gives a file a further name. If its first name is not extracted, this one gets the content,
    /// and `instead` remembers it.
    pub(super) fn hard_link(
        &self,
        link: &Deferred,
        target: &[u8],
        is_here: bool,
        instead: &mut HashMap<Vec<u8>, Vec<u8>>,
        report: &mut ExtractReport,
    ) -> Result<()> {
        let found = self.pack.entry(target)?;
        let file = found.and_then(|put| put.content.map(|content| (content, put.attributes)));
        let Some((content, attributes)) = file else {
            let error = format!(
                "it is another name of \"{}\", which is no file in the pack",
                target.escape_ascii()
            );
            report.problem(&link.key, ExtractProblemKind::Clash, error);
            return Ok(());
        };
        let stripped = self.strip(target).filter(|_| is_here);
        let Some(existing) = stripped.or(instead.get(target).map(Vec::as_slice)) else {
            let job =
                FileJob { key: link.key.clone(), path: link.path.clone(), content, attributes };
            if self.file(&job, report)? {
                instead.insert(target.to_vec(), job.path);
            }
            return Ok(());
        };
        match self.making_way(&link.path, || self.dir.hard_link(existing, &link.path)) {
            Ok(()) => report.hard_link_count += 1,
            Err(error) => self.failed(&link.key, error, report)?,
        }
        Ok(())
    }

    /// Makes a symbolic link, a pipe or a device.
    pub(super) fn node(&self, node: &Deferred, report: &mut ExtractReport) -> Result<()> {
        let attributes = &node.attributes;
        let mode = attributes.mode.unwrap_or(0o644) & !self.options.umask;
        let made = match (attributes.kind, &attributes.target, attributes.device) {
            (FileKind::Symlink, Some(target), _) => {
                self.making_way(&node.path, || self.dir.symlink(target, &node.path))
            }
            (FileKind::Fifo, _, _) => {
                self.making_way(&node.path, || self.dir.make_fifo(&node.path, mode))
            }
            (kind @ (FileKind::CharDevice | FileKind::BlockDevice), _, Some(number))
                if self.options.devices =>
            {
                let is_block = kind == FileKind::BlockDevice;
                self.making_way(&node.path, || {
                    self.dir.make_device(&node.path, is_block, mode, number)
                })
            }
            _ => {
                let (key, what) = (node.key.clone(), Property::Node);
                report.not_restored.push(NotRestored { key, what });
                return Ok(());
            }
        };
        if let Err(error) = made {
            return self.failed(&node.key, error, report);
        }
        match attributes.kind {
            FileKind::Symlink => report.symlink_count += 1,
            _ => report.other_count += 1,
        }
        let plain = Attributes { mode: None, ..attributes.clone() };
        self.give(&node.key, &plain, 0, report, |new| {
            self.dir.set_symlink_metadata(&node.path, new.owner, new.mtime)
        });
        Ok(())
    }

    /// Tries `make`, and again after removing what is in the way, if that is allowed.
    fn making_way(
        &self,
        path: &[u8],
        make: impl Fn() -> std::result::Result<(), TreeError>,
    ) -> std::result::Result<(), TreeError> {
        match make() {
            Err(TreeError::Io(error))
                if self.options.overwrite == Overwrite::Replace
                    && error.kind() == io::ErrorKind::AlreadyExists =>
            {
                self.dir.remove_file(path)?;
                make()
            }
            result => result,
        }
    }

    pub(super) fn directory_metadata(
        &self,
        key: &[u8],
        path: &[u8],
        attributes: &Attributes<'_>,
        report: &mut ExtractReport,
    ) -> Result<()> {
        check_cancel(self.options.cancel.as_deref())?;
        self.give(key, attributes, 0o755, report, |new| self.dir.set_dir_metadata(path, new));
        Ok(())
    }
}
