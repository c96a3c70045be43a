//! `config`, and the configuration that other commands begin with.

use super::args::{ConfigArgs, ConfigFile};
use super::output::{Output, count};
use super::{Outcome, Result};
use pefc::config::Config;
use pefc::disk::RealFs;
use pefc::{Error, ErrorKind};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The configuration where none is named.
const FILE_NAME: &str = "pefc.yaml";

/// Where the configuration is: as asked for, as the environment says, or here.
pub(super) fn path(file: &ConfigFile) -> PathBuf {
    let named = file.config.clone().or_else(|| std::env::var_os("PEFC_CONFIG").map(PathBuf::from));
    named.unwrap_or_else(|| PathBuf::from(FILE_NAME))
}

/// Reads the configuration.
pub(super) fn load(file: &ConfigFile) -> Result<Config> {
    let path = path(file);
    let config = Config::load(&RealFs, &path, &|name| std::env::var(name).ok());
    Ok(config.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "there is no configuration here")
            .at(&path)
            .hinting("name one with --config, or begin with `pefc config --defaults > pefc.yaml`"),
        _ => error,
    })?)
}

#[derive(Serialize)]
struct JsonCheck {
    config: String,
    ok: bool,
    storage_count: usize,
}

pub(super) fn config(args: &ConfigArgs, output: &mut Output) -> Result {
    let config = match args.what.defaults {
        true => Config::without_file(Path::new("")),
        false => load(&args.file)?,
    };
    if args.what.check {
        let config_path = path(&args.file).display().to_string();
        let storage_count = config.storages.len();
        if output.json() {
            output.object(&JsonCheck { config: config_path, ok: true, storage_count })?;
        } else {
            let storages = count(storage_count as u64, "storage");
            let default = &config.default_storage;
            output.note(&format!("{config_path}: right; {storages}, \"{default}\" by default"))?;
        }
    } else if output.json() {
        output.object(&config)?;
    } else {
        output.bytes(config.to_yaml().as_bytes())?;
    }
    Ok(Outcome::Done)
}
