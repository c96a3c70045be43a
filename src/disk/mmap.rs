//! Memory maps, the bus error that can come with them, and a hint that no safe interface offers:
//! the only unsafe code of the crate.

use std::fmt;
use std::fs;
use std::io;

/// A read-only memory map of the beginning of a file.
///
/// Packs only ever grow, and a map covers bytes that were there when it was made. If another
/// program cuts the file all the same, touching a page past its new end raises `SIGBUS`; a
/// library can't turn that into an error, so mapping can be switched off when a pack is opened,
/// for files that strangers may write to. The command installs [`exit_on_bus_error`].
pub struct Map(memmap2::Mmap);

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.0.len()).finish()
    }
}

impl Map {
    /// Maps the first `len` bytes of `file`.
    pub(super) fn new(file: &fs::File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the map is read-only and private to this value. Rust assumes that `&[u8]` does
        // not change while it is borrowed. PEFC itself never changes committed bytes and never
        // cuts a file below its last commit, and everything read through the map is checked by
        // hash *after it was copied or decoded*, so a foreign program that writes to the file can
        // make a read fail, not make it return unchecked bytes. A foreign program that truncates
        // the file causes SIGBUS, which the documentation of this type states.
        #[expect(unsafe_code, reason = "mapping a file; argued above")]
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        Ok(Self(map))
    }

    /// The mapped bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Makes the process leave with `exit_code` and `message` on standard error when a mapped file is
/// cut by another program, instead of dying of `SIGBUS`. For a program's `main`; a library must
/// not take over a signal of its host.
#[cfg(unix)]
pub fn exit_on_bus_error(message: &'static str, exit_code: i32) {
    use std::sync::OnceLock;
    static ON_BUS_ERROR: OnceLock<(&'static str, i32)> = OnceLock::new();

    extern "C" fn handler(_signal: libc::c_int) {
        // `OnceLock::get` is one atomic load; `write` and `_exit` are async-signal-safe.
        let (message, exit_code) = ON_BUS_ERROR.get().copied().unwrap_or(("", 20));
        // SAFETY: `message` is a static string, so pointer and length are valid; both calls are on
        // the list of async-signal-safe functions (signal-safety(7)) and touch no Rust state.
        #[expect(unsafe_code, reason = "async-signal-safe calls; argued above")]
        unsafe {
            libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
            libc::_exit(exit_code);
        }
    }

    if ON_BUS_ERROR.set((message, exit_code)).is_err() {
        return; // installed already
    }
    let handler: extern "C" fn(libc::c_int) = handler;
    // SAFETY: `handler` has the C ABI and the signature that `signal` wants, lives as long as the
    // process, and only makes async-signal-safe calls.
    #[expect(unsafe_code, reason = "installing a signal handler; argued above")]
    unsafe {
        libc::signal(libc::SIGBUS, handler as libc::sighandler_t);
    }
}

/// Other systems report a failed page read in their own way: nothing is installed.
#[cfg(not(unix))]
pub fn exit_on_bus_error(_message: &'static str, _exit_code: i32) {}

/// Has the system begin to write a range of dirty pages, without waiting (sync_file_range(2)).
/// Errors are left to the sync that follows: this call does not consume them.
#[cfg(target_os = "linux")]
pub(super) fn begin_writeback(file: &fs::File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else { return };
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the call takes numbers only
    // and touches no memory of this process.
    #[expect(unsafe_code, reason = "a system call on numbers; argued above")]
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
