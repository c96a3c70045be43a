//! Standard input that a signal can interrupt.
//!
//! A read that waits for a terminal or a pipe would only end with it, so a thread of its own waits.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

const PART_BYTES: usize = 256 << 10;
const PARTS_AHEAD: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Standard input, until it ends or the flag is set.
pub(super) struct Stdin {
    parts: Receiver<io::Result<Vec<u8>>>,
    part: Vec<u8>,
    used: usize,
    cancelled: Arc<AtomicBool>,
}

impl Stdin {
    pub(super) fn new(cancelled: &Arc<AtomicBool>) -> Self {
        let (sender, parts) = sync_channel(PARTS_AHEAD);
        // Nobody joins it: it may wait for input when the process ends.
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            loop {
                let mut part = vec![0; PART_BYTES];
                let read = input.read(&mut part);
                let is_last = !matches!(&read, Ok(len) if *len > 0);
                let read = read.map(|len| {
                    part.truncate(len);
                    part
                });
                if matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
                    continue;
                }
                if sender.send(read).is_err() || is_last {
                    return;
                }
            }
        });
        Self { parts, part: Vec::new(), used: 0, cancelled: Arc::clone(cancelled) }
    }
}

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.used == self.part.len() {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("interrupted")); // the kind Interrupted means: again
            }
            match self.parts.recv_timeout(LOOK_EVERY) {
                Ok(part) => (self.part, self.used) = (part?, 0),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
            if self.part.is_empty() {
                return Ok(0);
            }
        }
        let len = buf.len().min(self.part.len() - self.used);
        buf[..len].copy_from_slice(&self.part[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}
