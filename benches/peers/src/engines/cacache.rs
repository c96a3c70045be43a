//! cacache, with the syncs that it leaves out: of the content, of the line in the index, and of the
//! directories that hold them. (Not of directories that it has made above those.)

use crate::engine::{Engine, Result};
use crate::workload::Record;
use sha1::{Digest, Sha1};
use std::fs::File;
use std::path::{Path, PathBuf};

struct Cacache(PathBuf);

pub fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Cacache(dir.join("cacache"))))
}

fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).expect("keys of the workload are text")
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).map_err(|error| format!("{}: {error}", path.display()))?.sync_all()?;
    File::open(path.parent().expect("it is in the cache"))?.sync_all()?;
    Ok(())
}

fn spread(mut dir: PathBuf, hex: &str) -> PathBuf {
    dir.extend([&hex[..2], &hex[2..4], &hex[4..]]);
    dir
}

impl Engine for Cacache {
    fn put(&mut self, batch: &[Record]) -> Result<()> {
        for (key, value) in batch {
            let integrity = cacache::write_sync(&self.0, text(key), value)?;
            let (_, hex) = integrity.to_hex();
            sync(&spread(self.0.join("content-v2/sha256"), &hex))?;
            let hash: String = Sha1::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
            sync(&spread(self.0.join("index-v5"), &hash))?;
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match cacache::read_sync(&self.0, text(key)) {
            Ok(value) => Ok(Some(value)),
            Err(cacache::Error::EntryNotFound(..)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)> {
        let mut keys = Vec::new();
        for entry in cacache::list_sync(&self.0) {
            let entry = entry?;
            if entry.key.as_bytes().starts_with(prefix) {
                keys.push(entry.key);
            }
        }
        keys.sort();
        Ok((keys.len(), keys.iter().map(String::len).sum()))
    }
}
