//! Caches in memory, with a bound in bytes and an hour to live where they know of it.

use crate::engine::{Engine, Result, locked_version};
use crate::workload::Record;
use pefc::storage::{CacheBackend, CacheOptions, Storage};
use std::sync::Arc;
use std::time::Duration;

pub const CAPACITY_BYTES: u64 = 1 << 30;

/// Makes an empty cache.
type Make = fn() -> Box<dyn Engine>;

pub fn all() -> Vec<(&'static str, String, Make)> {
    vec![
        ("pefc cache", locked_version("pefc"), || Box::new(Own::new())),
        ("moka", locked_version("moka"), || Box::new(Moka::new())),
        ("quick_cache", locked_version("quick_cache"), || Box::new(Quick::new())),
    ]
}

fn weight(key: &[u8], value: &[u8]) -> u32 {
    (128 + key.len() + value.len()) as u32
}

struct Own(Storage);

impl Own {
    fn new() -> Self {
        let options = CacheOptions { capacity_bytes: CAPACITY_BYTES, ..Default::default() };
        Self(Storage::new("cache", CacheBackend::alone(options)))
    }
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

    fn list(&mut self, _: &[u8]) -> Result<(usize, usize)> {
        Ok((0, 0))
    }
}

struct Moka(moka::sync::Cache<Vec<u8>, Arc<[u8]>>);

impl Moka {
    fn new() -> Self {
        let builder = moka::sync::Cache::builder()
            .weigher(|key: &Vec<u8>, value: &Arc<[u8]>| weight(key, value))
            .time_to_live(Duration::from_secs(3600))
            .max_capacity(CAPACITY_BYTES);
        Self(builder.build())
    }
}

impl Engine for Moka {
    fn put(&mut self, batch: &[Record]) -> Result<()> {
        for (key, value) in batch {
            self.0.insert(key.clone(), value.as_slice().into());
        }
        self.0.run_pending_tasks();
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).map(|value| value.to_vec()))
    }

    fn list(&mut self, _: &[u8]) -> Result<(usize, usize)> {
        Ok((0, 0))
    }
}

#[derive(Clone)]
struct ByBytes;

impl quick_cache::Weighter<Vec<u8>, Arc<[u8]>> for ByBytes {
    fn weight(&self, key: &Vec<u8>, value: &Arc<[u8]>) -> u64 {
        weight(key, value).into()
    }
}

#[derive(Hash)]
struct Wanted<'a>(&'a [u8]);

impl quick_cache::Equivalent<Vec<u8>> for Wanted<'_> {
    fn equivalent(&self, key: &Vec<u8>) -> bool {
        self.0 == key.as_slice()
    }
}

struct Quick(quick_cache::sync::Cache<Vec<u8>, Arc<[u8]>, ByBytes>);

impl Quick {
    fn new() -> Self {
        Self(quick_cache::sync::Cache::with_weighter(1 << 20, CAPACITY_BYTES, ByBytes))
    }
}

impl Engine for Quick {
    fn put(&mut self, batch: &[Record]) -> Result<()> {
        for (key, value) in batch {
            self.0.insert(key.clone(), value.as_slice().into());
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&Wanted(key)).map(|value| value.to_vec()))
    }

    fn list(&mut self, _: &[u8]) -> Result<(usize, usize)> {
        Ok((0, 0))
    }
}
