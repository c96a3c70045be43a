//! The storages of pefc.

use crate::engine::{Engine, Result};
use crate::workload::Record;
use pefc::storage::{DatabaseBackend, FileBackend, PackBackend, Storage};
use pefc::store::{ContentStore, StoreOptions};
use std::path::Path;

struct Own(Storage);

pub fn open_pack(dir: &Path) -> Result<Box<dyn Engine>> {
    let backend = PackBackend::open(dir.join("pack"), Default::default())?;
    Ok(Box::new(Own(Storage::new("pack", backend))))
}

pub fn open_database(dir: &Path) -> Result<Box<dyn Engine>> {
    let content = ContentStore::open(dir.join("content"), StoreOptions::default())?;
    let (backend, _) = DatabaseBackend::open(dir.join("refs.db"), content, Default::default())?;
    Ok(Box::new(Own(Storage::new("database", backend))))
}

pub fn open_file(dir: &Path) -> Result<Box<dyn Engine>> {
    let content = ContentStore::open(dir.join("content"), StoreOptions::default())?;
    let backend = FileBackend::open(dir.join("refs"), content, Default::default())?;
    Ok(Box::new(Own(Storage::new("file", backend))))
}

impl Engine for Own {
    fn put(&mut self, records: &[Record]) -> Result<()> {
        let mut batch = self.0.batch()?;
        for (key, value) in records {
            batch.store(key, value)?;
        }
        batch.commit()?;
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.retrieve(key)?)
    }

    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)> {
        let mut found = (0, 0);
        for key in self.0.list_keys(prefix) {
            found = (found.0 + 1, found.1 + key?.len());
        }
        Ok(found)
    }
}
