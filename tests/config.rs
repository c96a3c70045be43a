//! The configuration: what loads, what it means, and what is said of what does not.
#![cfg(feature = "yaml")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    reason = "tests fail by panicking; numbers here are small"
)]

use pefc::config::{Config, ConfigError, Fault, StorageConfig, TEXT_BYTES_MAX, defaults};
use pefc::disk::RealFs;
use pefc::retention::Policy;
use pefc::{ErrorKind, config};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the first users wrote.
const SKETCH: &str = r#"persistence:
  default_storage: "file"
  storages:
    file:     { type: "file",     base_path: "data/storage" }
    database: { type: "database", db_path: "data/xme.db" }
    pack:     { type: "pack",     pack_path: "data/packs" }
    cache:    { type: "cache",    ttl: 3600 }
  backup: { enabled: true, schedule: "daily", retention: 30, path: "data/backups" }
"#;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "BASE" => "/srv/pefc",
        "TTL" => "60",
        "EMPTY" => "",
        "YES" => "true",
        "DOLLAR" => "${BASE}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/pefc"), &variables)
}

/// The storages `a` and `b` that a text in flow style describes.
fn storages(text: &str) -> Result<Config, ConfigError> {
    parse(&format!("persistence:\n  default_storage: a\n  storages:\n    {text}\n"))
}

#[test]
fn the_sketch_loads_as_it_stands() {
    let config = parse(SKETCH).unwrap();
    let at = |path: &str| PathBuf::from("/etc/pefc").join(path);
    assert_eq!(config.default_storage, "file");
    assert_eq!(config.content, at("data/content"));
    let expected = [
        (
            "cache",
            StorageConfig::Cache { ttl_s: 3600, bytes_max: defaults::CACHE_BYTES_MAX, over: None },
        ),
        ("database", StorageConfig::Database { db_path: at("data/xme.db") }),
        ("file", StorageConfig::File { base_path: at("data/storage") }),
        ("pack", StorageConfig::Pack { pack_path: at("data/packs") }),
    ];
    assert!(
        config
            .storages
            .iter()
            .map(|(name, one)| (&**name, one))
            .eq(expected.iter().map(|(name, one)| (*name, one)))
    );
    assert!(config.backup.enabled);
    assert_eq!(config.backup.schedule.text(), "daily");
    assert_eq!(config.backup.retention, Policy::newest(30));
    assert_eq!(config.backup.path, at("data/backups"));
    assert_eq!(config.backup.storages, ["database", "file", "pack"]);
}

#[test]
fn what_is_left_out_has_its_default() {
    for text in ["", "# nothing\n", "---\n", "persistence:\n", "persistence: {}\n"] {
        let config = parse(text).unwrap();
        assert_eq!(config, Config::without_file(Path::new("/etc/pefc")), "{text:?}");
        assert!(!config.backup.enabled);
        assert_eq!(config.storages.keys().collect::<Vec<_>>(), ["file"]);
    }
    let config = storages("a: { type: cache }\n    b: { type: pack }").unwrap();
    let cache = StorageConfig::Cache {
        ttl_s: defaults::TTL_S,
        bytes_max: defaults::CACHE_BYTES_MAX,
        over: None,
    };
    assert_eq!(config.storages["a"], cache);
    let pack_path = Path::new("/etc/pefc").join(defaults::PACK_PATH);
    assert_eq!(config.storages["b"], StorageConfig::Pack { pack_path });
    assert!(parse("persistence: { backup: {} }").unwrap().backup.enabled);
}

#[test]
fn the_example_of_the_documentation_loads() {
    let source = include_str!("../src/config.rs");
    let mut lines = source.lines().map(|line| line.trim_start_matches("//!"));
    let example: String = lines
        .by_ref()
        .skip_while(|line| line.trim() != "```yaml")
        .skip(1)
        .take_while(|line| line.trim() != "```")
        .fold(String::new(), |text, line| text + line.strip_prefix(' ').unwrap_or(line) + "\n");
    let config = parse(&example).unwrap();
    assert_eq!(config.storages.len(), 4);
    assert_eq!(
        config.backup.retention,
        Policy { last: 3, daily: 7, weekly: 4, ..Policy::default() }
    );
    let over = Some("database".to_owned());
    let cache = StorageConfig::Cache { ttl_s: 3600, bytes_max: 64 << 20, over };
    assert_eq!(config.storages["cache"], cache);
}

#[test]
fn variables_are_replaced_wherever_a_value_is() {
    let config = parse(
        r#"
persistence:
  default_storage: ${NONE:-a}
  content: "${BASE}/content"
  storages:
    a: { type: "${NONE:-file}", base_path: '${BASE}/$${x}/$y/${EMPTY:-z}/${DOLLAR}' }
    c: { type: cache, ttl: "${TTL}" }
    d:
      type: cache
      ttl: ${TTL}
  backup:
    enabled: ${YES}
    retention: ${NONE:-7}
    path: ${BASE}/b
"#,
    )
    .unwrap();
    assert_eq!(config.content, Path::new("/srv/pefc/content"));
    let base_path = PathBuf::from("/srv/pefc/${x}/$y/z/${BASE}");
    assert_eq!(config.storages["a"], StorageConfig::File { base_path });
    for name in ["c", "d"] {
        assert!(matches!(config.storages[name], StorageConfig::Cache { ttl_s: 60, .. }));
    }
    assert_eq!(config.backup.retention, Policy::newest(7));
    assert_eq!(config.backup.path, Path::new("/srv/pefc/b"));
}

/// Each fault is told with its line and, where one is near, the name that was meant.
#[test]
fn faults_are_told_where_they_are() {
    let cases = [
        (
            "persistance: {}\n",
            "line 1, column 1: there is no field `persistance` here; did you mean `persistence`?",
        ),
        (
            "persistence:\n  default_storage: file\n  storage: {}\n",
            "line 3, column 3: there is no field `storage` here; did you mean `storages`?",
        ),
        (
            "persistence:\n  storages:\n    file: { type: file, base_pth: x }\n",
            "line 3, column 25: there is no field `base_pth` here; did you mean `base_path`?",
        ),
        (
            "persistence:\n  backup:\n    retention:\n      keep:\n        dayly: 3\n",
            "line 5, column 9: there is no field `dayly` here; did you mean `daily`?",
        ),
        (
            "persistence:\n  backup:\n    xyz: 1\n",
            "line 3, column 5: there is no field `xyz` here (there are: enabled, schedule, time_zone, retention, path, storages)",
        ),
        (
            "persistence:\n  storages:\n    file:\n      type: file\n      ttl: 3\n",
            "line 5, column 12: a storage of type file has no field `ttl` (there is: base_path)",
        ),
        (
            "persistence:\n  storages:\n    file: { base_path: x }\n",
            "line 3, column 11: the storage \"file\" has no field `type` (there are: file, database, pack, cache)",
        ),
        (
            "persistence:\n  storages:\n    file: { type: datbase }\n",
            "line 3, column 19: there is no storage type \"datbase\"; did you mean `database`?",
        ),
        (
            "persistence:\n  default_storage: fiel\n",
            "line 2, column 20: `default_storage` names the storage \"fiel\", which does not exist; did you mean `file`?",
        ),
        (
            "persistence:\n  storages: { other: { type: file } }\n",
            "`default_storage` names the storage \"file\", which does not exist (there is: other)",
        ),
        (
            "persistence:\n  storages: { file: { type: file }, c: { type: cache, over: d } }\n",
            "line 2, column 61: `over` names the storage \"d\", which does not exist (there are: c, file)",
        ),
        (
            "persistence:\n  storages: { file: { type: cache }, c: { type: cache, over: file } }\n",
            "`over` is \"file\", but must be a storage that is no cache itself",
        ),
        (
            "persistence:\n  backup: { storages: [file, data] }\n",
            "line 2, column 30: `backup.storages` names the storage \"data\"",
        ),
        (
            "persistence:\n  backup: { enabled: maybe }\n",
            "`enabled` is \"maybe\", but must be true or false",
        ),
        (
            "persistence:\n  backup: { retention: 0 }\n",
            "line 2, column 24: `retention` is \"0\", but must be a number",
        ),
        ("persistence:\n  backup: { retention: -1 }\n", "`retention` is \"-1\""),
        ("persistence:\n  backup: { retention: 1.5 }\n", "`retention` is \"1.5\""),
        (
            "persistence:\n  backup: { retention: [] }\n",
            "line 2, column 13: invalid type: sequence, expected a number, or `keep",
        ),
        ("persistence:\n  backup: { retention: { keep: {} } }\n", "at least one count"),
        ("persistence:\n  backup: { retention: { keep: { last: many } } }\n", "`last` is \"many\""),
        (
            "persistence:\n  backup: { schedule: dialy }\n",
            "line 2, column 23: `schedule`: `dialy` is no schedule: it is hourly, daily",
        ),
        ("persistence:\n  backup: { schedule: \"0 25 * * *\" }\n", "`0 25 * * *` is no cron text"),
        ("persistence:\n  backup: { schedule: \"0 0 31 2 *\" }\n", "`0 0 31 2 *` never comes"),
        ("persistence:\n  backup: { time_zone: Mars/Base }\n", "`time_zone` is \"Mars/Base\""),
        ("persistence:\n  storages: { file: { type: cache, ttl: 0 } }\n", "`ttl` is \"0\""),
        ("persistence:\n  storages: { file: { type: cache, ttl: 1h } }\n", "`ttl` is \"1h\""),
        (
            "persistence:\n  storages: { file: { type: cache, max_bytes: 0MiB } }\n",
            "a number of bytes",
        ),
        (
            "persistence:\n  storages: { file: { type: cache, max_bytes: 99999999999TiB } }\n",
            "a number of bytes",
        ),
        ("persistence:\n  storages: { file: { type: file, base_path: \"\" } }\n", "line 2, column"),
        ("persistence:\n  content: ${NONE}/x\n", "line 2, column 12: the variable NONE is not set"),
        ("persistence:\n  content: \"${BASE\"\n", "`${BASE` names no variable"),
        ("persistence:\n  content: ${1}\n", "`${1}` names no variable"),
        ("persistence:\n  content: \"${A:-${B}}\"\n", "names no variable"),
        (
            "persistence:\n  storages: { \"a b\": { type: file } }\n",
            "\"a b\" can't be the name of a storage",
        ),
        (
            "persistence:\n  storages: { \"../x\": { type: file } }\n",
            "can't be the name of a storage",
        ),
        (
            "persistence:\n  default_storage: a\n  storages:\n    a: { type: file, base_path: x }\n    b: { type: pack, pack_path: ./y/../x/z }\n",
            "line 5, column 8: the storage \"b\"",
        ),
        ("persistence:\n  content: data/storage/content\n", "would lie in each other"),
        ("persistence:\n  backup: { path: data/content }\n", "would lie in each other"),
        ("persistence:\n  content: a\n  content: b\n", "line 3"),
        ("persistence: [1]\n", "line 1"),
        ("persistence: {\n", "line"),
        ("persistence: {}\n---\npersistence: {}\n", "line"),
    ];
    let mut wrong = String::new();
    for (text, said) in cases {
        match parse(text) {
            Ok(_) => write!(wrong, "{text}  loads\n\n").unwrap(),
            Err(error) if error.to_string().contains(said) => {}
            Err(error) => write!(wrong, "{text}  says {error}\n  not  {said}\n\n").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn limits_hold() {
    let long = parse(&"#".repeat(TEXT_BYTES_MAX + 1)).unwrap_err();
    assert!(matches!(long.fault, Fault::Limit { .. }), "{long}");
    let deep = parse(&format!("persistence: {}", "[".repeat(10_000))).unwrap_err();
    assert!(deep.to_string().len() < 1000, "{deep}");
    let value = format!("persistence: {{ content: {} }}", "x".repeat(config::VALUE_BYTES_MAX + 1));
    assert!(matches!(parse(&value).unwrap_err().fault, Fault::Limit { .. }));
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", [before.as_str(); 10].join(", ")).unwrap();
    }
    assert!(parse(&bomb).is_err());
}

#[test]
fn a_file_that_is_wrong_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pefc.yaml");
    let load = || Config::load(&RealFs, &path, &variables);
    assert_eq!(load().unwrap_err().kind(), ErrorKind::NotFound);

    std::fs::write(&path, SKETCH).unwrap();
    assert_eq!(load().unwrap().content, dir.path().join("data/content"));

    std::fs::write(&path, "persistence:\n  stores: {}\n").unwrap();
    let error = load().unwrap_err();
    assert_eq!((error.kind(), error.kind().exit_code()), (ErrorKind::Config, 15));
    let text = error.to_string();
    assert!(text.contains("pefc.yaml") && text.contains("line 2, column 3"), "{text}");
    assert!(text.contains("`storages`"), "{text}");

    std::fs::write(&path, b"persistence: \xff\n").unwrap();
    assert_eq!(load().unwrap_err().kind(), ErrorKind::Config);
    std::fs::write(&path, vec![b'#'; TEXT_BYTES_MAX + 100]).unwrap();
    assert_eq!(load().unwrap_err().kind(), ErrorKind::Config);
}

fn any_path() -> impl Strategy<Value = String> {
    // Each gets a directory of its own, so that none lies in another.
    "[a-zA-Z$%{}'\" :#.-]{0,12}"
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_as_the_same(
        names in prop::collection::btree_set("[a-z0-9_-]{1,8}", 1..6),
        parts in prop::collection::vec(any_path(), 8),
        kinds in prop::collection::vec(0_u8..5, 6),
        ttl_s in 1_u32..,
        bytes_max in 1_u64..(1 << 60),
        keep in prop::array::uniform6(0_u32..100),
        enabled in any::<bool>(),
        schedule in prop::sample::select(vec!["hourly", "monthly", "*/5 2,3 * * mon-fri"]),
        zone in prop::option::of(prop::sample::select(vec!["UTC", "Europe/Berlin"])),
    ) {
        let path = |index: usize| PathBuf::from(format!("/d/{index}/{}x", parts[index]));
        let mut config = Config::without_file(Path::new("/d"));
        config.content = path(6);
        config.storages.clear();
        let first = names.first().unwrap();
        for (index, name) in names.iter().enumerate() {
            let storage = match kinds[index] {
                0 => StorageConfig::File { base_path: path(index) },
                1 => StorageConfig::Database { db_path: path(index) },
                2 => StorageConfig::Pack { pack_path: path(index) },
                kind => {
                    let is_front = kind == 4 && index > 0 && kinds[0] < 3;
                    let over = is_front.then(|| first.clone());
                    StorageConfig::Cache { ttl_s, bytes_max, over }
                }
            };
            config.storages.insert(name.clone(), storage);
        }
        config.default_storage = first.clone();
        let [last, hourly, daily, weekly, monthly, yearly] = keep;
        config.backup.retention =
            Policy { last: last + 1, hourly, daily, weekly, monthly, yearly };
        if last % 4 == 0 {
            config.backup.retention = Policy::newest(last + 1);
        }
        config.backup.enabled = enabled;
        config.backup.schedule = schedule.parse().unwrap();
        config.backup.time_zone = zone.map(|name| jiff::tz::TimeZone::get(name).unwrap());
        config.backup.path = path(7);
        config.backup.storages = names.iter().cloned().collect();
        let text = config.to_yaml();
        let again = Config::parse(&text, Path::new("/elsewhere"), &|_| None);
        match again {
            Ok(again) => prop_assert_eq!(again, config, "{}", text),
            Err(error) => prop_assert!(false, "{}\n{}", error, text),
        }
    }

    #[test]
    fn no_text_makes_it_panic(
        cuts in prop::collection::vec((0_usize..400, "[-a-z0-9:{}\\[\\]\"'&*!|>#%@` \n\t${]{0,6}"), 0..6),
    ) {
        let mut text = SKETCH.to_owned();
        for (at, piece) in cuts {
            let at = at.min(text.len());
            text.replace_range(at..(at + 3).min(text.len()), &piece);
        }
        let _ = parse(&text);
    }
}
