//! RocksDB with zstd.

use crate::engine::{Engine, Result};
use crate::workload::Record;
use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, Direction, IteratorMode, Options, WriteBatch,
    WriteOptions,
};
use std::path::Path;

struct Rocks(DB);

pub fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Zstd);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(16 << 10);
    blocks.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&blocks);
    Ok(Box::new(Rocks(DB::open(&options, dir.join("rocks"))?)))
}

impl Engine for Rocks {
    fn put(&mut self, records: &[Record]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            batch.put(key, value);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.0.write_opt(batch, &options)?)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key)?)
    }

    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)> {
        let mut found = (0, 0);
        for row in self.0.iterator(IteratorMode::From(prefix, Direction::Forward)) {
            let (key, _) = row?;
            if !key.starts_with(prefix) {
                break;
            }
            found = (found.0 + 1, found.1 + key.len());
        }
        Ok(found)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.0.flush()?)
    }
}
