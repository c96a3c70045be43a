//! LMDB.

use crate::engine::{Engine, Result};
use crate::workload::Record;
use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions};
use std::path::Path;

struct Lmdb {
    env: Option<Env>,
    db: Database<Bytes, Bytes>,
}

pub fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    // SAFETY: nothing else uses the file while it is mapped.
    let env = unsafe { EnvOpenOptions::new().map_size(16 << 30).open(dir)? };
    let mut tx = env.write_txn()?;
    let db = env.create_database(&mut tx, None)?;
    tx.commit()?;
    Ok(Box::new(Lmdb { env: Some(env), db }))
}

impl Lmdb {
    fn env(&self) -> &Env {
        self.env.as_ref().expect("only dropping takes it")
    }
}

impl Drop for Lmdb {
    fn drop(&mut self) {
        if let Some(env) = self.env.take() {
            env.prepare_for_closing().wait(); // or it can't be opened again in this process
        }
    }
}

impl Engine for Lmdb {
    fn put(&mut self, batch: &[Record]) -> Result<()> {
        let mut tx = self.env().write_txn()?;
        for (key, value) in batch {
            self.db.put(&mut tx, key, value)?;
        }
        Ok(tx.commit()?)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let tx = self.env().read_txn()?;
        Ok(self.db.get(&tx, key)?.map(<[u8]>::to_vec))
    }

    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)> {
        let tx = self.env().read_txn()?;
        let mut found = (0, 0);
        for row in self.db.prefix_iter(&tx, prefix)? {
            let key = row?.0.to_vec();
            found = (found.0 + 1, found.1 + key.len());
        }
        Ok(found)
    }
}
