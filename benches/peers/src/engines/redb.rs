//! redb.

use crate::engine::{Engine, Result};
use crate::workload::Record;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::path::Path;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("kv");

struct Redb(Database);

pub fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(Redb(Database::create(dir.join("data.redb"))?)))
}

impl Engine for Redb {
    fn put(&mut self, batch: &[Record]) -> Result<()> {
        let tx = self.0.begin_write()?; // durable when committed, unless told otherwise
        {
            let mut table = tx.open_table(TABLE)?;
            for (key, value) in batch {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(tx.commit()?)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn list(&mut self, prefix: &[u8]) -> Result<(usize, usize)> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut found = (0, 0);
        for row in table.range(prefix..)? {
            let key = row?.0.value().to_vec();
            if !key.starts_with(prefix) {
                break;
            }
            found = (found.0 + 1, found.1 + key.len());
        }
        Ok(found)
    }
}
