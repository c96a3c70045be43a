//! The layers of the crate: which module may know which. One crate has no crate walls, so this test
//! reads the sources and holds them to [`LAYERS`] and [`MACHINE`], the two tables below.
//!
//! It follows paths that begin with `crate`, `super` or `self`, in `use` and elsewhere, outside
//! `#[cfg(test)]`. What would hide an edge from it is refused: globs, the crate root as a detour,
//! `extern crate`, `#[path]`. It reads tokens, not types: a macro that builds a path escapes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module at the top of `src/`, with all below it, and the ones that it may import. From the
/// bottom to the top: a layer only knows layers above its own row.
const LAYERS: &[(&str, &[&str])] = &[
    ("hash", &[]),
    ("chunk", &[]),
    ("tree", &[]),
    ("disk", &[]),
    ("format", &["hash"]),
    ("proof", &["hash", "tree", "format"]),
    ("compress", &["hash", "format"]),
    ("segment", &["hash", "format", "disk", "compress"]),
    ("index", &["hash", "format", "disk", "segment"]),
    ("error", &["hash", "format", "disk", "proof", "compress", "segment"]),
    ("sign", &["disk", "tree", "format", "proof", "error"]),
    (
        "pack",
        &[
            "hash", "chunk", "tree", "disk", "format", "proof", "compress", "segment", "index",
            "error", "sign",
        ],
    ),
    ("archive", &["hash", "chunk", "disk", "format", "error", "pack"]),
    ("store", &["hash", "chunk", "disk", "format", "error", "pack"]),
    ("refs", &["hash", "disk", "error"]),
    ("storage", &["hash", "chunk", "disk", "format", "error", "pack", "store", "refs"]),
    ("retention", &[]),
    ("schedule", &[]),
    ("config", &["disk", "error", "retention", "schedule"]),
    (
        "backup",
        &["hash", "disk", "format", "error", "store", "refs", "storage", "retention", "schedule"],
    ),
    (
        "manager",
        &[
            "hash",
            "disk",
            "format",
            "error",
            "store",
            "refs",
            "storage",
            "retention",
            "schedule",
            "config",
            "backup",
        ],
    ),
    // The command sees what every user of the library sees: `pefc::`. `src/cli*` is one layer.
    ("cli", &[]),
    ("main", &["cli"]),
];

/// The layers of the binary. The crate root of all others is `lib.rs`, which may know them all.
const BINARY: &[&str] = &["cli", "main"];

/// The machine below, and the layers that may touch it. Everyone else goes through `disk`.
const MACHINE: &[(&str, &[&str])] = &[
    ("std::fs", &["disk"]),
    ("std::os::unix::fs", &["disk"]),
    ("std::net", &[]),
    ("std::time", &["disk", "cli", "main"]),
    ("std::env", &["cli", "main"]),
    ("rustix", &["disk"]),
    ("libc", &["disk"]),
    ("memmap2", &["disk"]),
];

/// The only file with unsafe code, below `src/`.
const UNSAFE: &str = "disk/mmap.rs";

#[test]
fn the_sources_keep_to_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read_sources(&root, &root, &mut files);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for must in ["lib.rs", "main.rs", "hash.rs", UNSAFE] {
        assert!(names.contains(&must), "src/{must} was not read: {names:?}");
    }
    let found = violations(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_table_has_no_upward_rows() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    for (layer, may_import) in LAYERS {
        for other in *may_import {
            assert!(below.contains(other), "{layer} <- {other}: not below it");
        }
        assert!(below.insert(layer), "{layer} is there twice");
    }
    let machine = MACHINE.iter().flat_map(|(_, allowed)| *allowed);
    for layer in machine.chain(BINARY) {
        assert!(below.contains(layer), "{layer} is no layer");
    }
}

fn read_sources(root: &Path, dir: &Path, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(dir).expect("src/ is readable");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("src/ is readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_sources(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it is below src/");
            let name = name.to_str().expect("sources have plain names").to_owned();
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            files.push((name, text));
        }
    }
}

/// Everything that breaks a rule, as `src/file.rs:line: what`. Files are named from `src/`.
fn violations(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut edges: BTreeMap<&'static str, BTreeSet<&'static str>> = BTreeMap::new();
    let sources: Vec<Source> = files.iter().map(|(name, text)| Source::read(name, text)).collect();
    let test_files: BTreeSet<&str> =
        sources.iter().flat_map(|source| source.test_modules.iter().map(String::as_str)).collect();
    for source in &sources {
        let place = |line: usize| format!("src/{}:{line}", source.name);
        let unsafe_lines = source.unsafe_lines.iter();
        found.extend(
            unsafe_lines
                .map(|line| format!("{}: unsafe code is in src/{UNSAFE} only", place(*line))),
        );
        let mut modules = (1..=source.module.len()).map(|depth| source.module[..depth].join("::"));
        if !modules.any(|module| test_files.contains(module.as_str())) {
            check_file(source, &mut found, &mut edges);
        }
    }
    found.extend(cycles(&edges).map(|cycle| format!("a cycle: {cycle}")));
    found
}

fn check_file(
    source: &Source,
    found: &mut Vec<String>,
    edges: &mut BTreeMap<&'static str, BTreeSet<&'static str>>,
) {
    let name = &source.name;
    let mut fault = |line: usize, what: String| found.push(format!("src/{name}:{line}: {what}"));
    for (line, what) in &source.faults {
        fault(*line, what.clone());
    }
    let top = source.module.first().map_or("", String::as_str);
    let is_root = source.name == "lib.rs";
    let row = LAYERS.iter().find(|(layer, _)| *layer == layer_of(&source.name, top));
    let Some((layer, may_import)) = row.copied().or(is_root.then_some(("lib", &[]))) else {
        fault(1, format!("`{top}` has no row in LAYERS"));
        return;
    };
    let in_binary = BINARY.contains(&layer);
    for path in &source.paths {
        let text = path.parts.join("::");
        for (prefix, allowed) in MACHINE {
            if !allowed.contains(&layer) && touches(&path.parts, prefix) {
                fault(path.line, format!("{layer} may not use {prefix} (`{text}`)"));
            }
        }
        let is_glob = path.parts.last().is_some_and(|last| last == "*");
        let of_type = path.parts.iter().nth_back(1).is_some_and(|part| is_type(part));
        if is_glob && !of_type && !is_root {
            fault(path.line, format!("a glob hides edges (`{text}`)"));
        }
        if path.parts[0] == "pefc" && !in_binary {
            fault(path.line, format!("the library does not import itself (`{text}`)"));
        }
        let Some(target) = path.in_crate(&source.module) else {
            continue;
        };
        let other = target.first().map_or("*", String::as_str);
        let row = LAYERS.iter().find(|(layer, _)| *layer == layer_of("", other));
        match row {
            _ if is_root || other == top => {}
            Some((other, _)) if BINARY.contains(other) != in_binary => {
                fault(path.line, format!("{layer} and {other} are two crates (`{text}`)"));
            }
            Some((other, _)) => {
                edges.entry(layer).or_default().insert(other);
                if *other != layer && !may_import.contains(other) {
                    fault(path.line, format!("{layer} may not import {other} (`{text}`)"));
                }
            }
            None if in_binary => {
                fault(path.line, format!("{layer} uses the library as `pefc::` (`{text}`)"));
            }
            None => fault(
                path.line,
                format!("`{text}` goes through the crate root: name the module that has it"),
            ),
        }
    }
}

/// The layer of a file, or, without one, of a module at the top.
fn layer_of<'a>(file: &str, top: &'a str) -> &'a str {
    match top {
        "" if file == "main.rs" => "main",
        _ if top.starts_with("cli") => "cli",
        _ => top,
    }
}

/// Whether a path is in `prefix`, or a glob or rename from which it could be reached.
fn touches(parts: &[String], prefix: &str) -> bool {
    let prefix: Vec<&str> = prefix.split("::").collect();
    let parts = match parts {
        [first, rest @ ..] if first == "core" => [&["std".to_owned()], rest].concat(),
        _ => parts.to_vec(),
    };
    match parts.split_last() {
        Some((last, rest)) if last == "*" => prefix.iter().zip(rest).all(|(a, b)| a == b),
        _ => parts.len() >= prefix.len() && prefix.iter().zip(&parts).all(|(a, b)| a == b),
    }
}

fn is_type(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

/// One cycle for each module that imports itself by way of others.
fn cycles<'a>(
    edges: &'a BTreeMap<&'static str, BTreeSet<&'static str>>,
) -> impl Iterator<Item = String> + 'a {
    edges.keys().filter_map(|start| {
        // Breadth first, so that the shortest one is told; only by its smallest member.
        let mut ways = vec![vec![*start]];
        let mut seen = BTreeSet::new();
        let mut next = 0;
        while let Some(way) = ways.get(next).cloned() {
            next += 1;
            let here = way[way.len() - 1];
            for to in edges.get(here).into_iter().flatten() {
                let longer = [way.as_slice(), &[*to]].concat();
                if to == start && here != *start {
                    let smallest = way.iter().min() == Some(start);
                    return smallest.then(|| longer.join(" -> "));
                }
                if seen.insert(*to) {
                    ways.push(longer);
                }
            }
        }
        None
    })
}

/// What the rules ask about a file.
struct Source {
    name: String,
    /// Module path from the crate root; empty for `lib.rs` and `main.rs`.
    module: Vec<String>,
    paths: Vec<Reference>,
    /// Modules in files of their own that are there for tests only.
    test_modules: Vec<String>,
    /// Lines with unsafe code where it may not be, tests included.
    unsafe_lines: Vec<usize>,
    /// What hides edges, and its line.
    faults: Vec<(usize, String)>,
}

/// A path in the code.
struct Reference {
    /// As written, without the leading `::`. In an inline module `self` and `super` are resolved to
    /// it: then it begins with `crate`.
    parts: Vec<String>,
    line: usize,
}

impl Reference {
    /// The path from the root of the crate, if it begins with `crate`, `super` or `self`.
    fn in_crate(&self, module: &[String]) -> Option<Vec<String>> {
        let mut at = match self.parts[0].as_str() {
            "crate" => Vec::new(),
            "self" | "super" => module.to_vec(),
            _ => return None,
        };
        for part in &self.parts {
            match part.as_str() {
                "crate" | "self" | "*" => {}
                "super" => drop(at.pop()),
                _ => at.push(part.clone()),
            }
        }
        Some(at)
    }
}

impl Source {
    fn read(name: &str, text: &str) -> Self {
        let module = module_of(name);
        let tokens = tokens(text);
        let mut source = Self {
            name: name.to_owned(),
            module,
            paths: Vec::new(),
            test_modules: Vec::new(),
            unsafe_lines: Vec::new(),
            faults: Vec::new(),
        };
        source.find_unsafe(&tokens);
        let code = source.without_tests(&tokens);
        source.find_detours(&code);
        source.find_paths(&code);
        source
    }

    fn fault(&mut self, token: &Token, what: &str) {
        self.faults.push((token.line, what.to_owned()));
    }

    fn find_unsafe(&mut self, tokens: &[Token]) {
        // `#![deny(…, unsafe_code)]` is no unsafe code.
        let is_held = |at: usize| {
            let open = tokens[..at].iter().rposition(|token| token.text == "(");
            let lint = open.and_then(|open| tokens.get(open.wrapping_sub(1)));
            lint.is_some_and(|lint| matches!(lint.text.as_str(), "deny" | "forbid"))
        };
        for (at, token) in tokens.iter().enumerate() {
            let is_unsafe = match token.text.as_str() {
                "unsafe" => true,
                "unsafe_code" => !is_held(at),
                _ => false,
            };
            if is_unsafe && self.name != UNSAFE {
                self.unsafe_lines.push(token.line);
            }
        }
    }

    /// The tokens without items under `#[cfg(test)]`; files of test modules are noted.
    fn without_tests(&mut self, tokens: &[Token]) -> Vec<Token> {
        let mut kept = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let Some(after) = test_attribute(&tokens[at..]).map(|len| at + len) else {
                kept.push(tokens[at].clone());
                at += 1;
                continue;
            };
            let len = item_len(&tokens[after..]);
            if let [.., module, name, end] = &tokens[after..after + len]
                && (module.text.as_str(), end.text.as_str()) == ("mod", ";")
            {
                let path = [self.module.as_slice(), std::slice::from_ref(&name.text)].concat();
                self.test_modules.push(path.join("::"));
            }
            at = after + len;
        }
        kept
    }

    fn find_detours(&mut self, code: &[Token]) {
        for pair in code.windows(2) {
            match (pair[0].text.as_str(), pair[1].text.as_str()) {
                ("extern", "crate") => self.fault(&pair[0], "`extern crate` hides what it imports"),
                ("[", "path") => self.fault(&pair[1], "`#[path]` hides which module a file is"),
                ("mod", name) if name.starts_with("cli") && self.name == "lib.rs" => {
                    self.fault(&pair[1], "the command is no part of the library: main.rs has it");
                }
                _ => {}
            }
        }
    }

    fn find_paths(&mut self, code: &[Token]) {
        // Inline modules around the current place, each with the depth of braces outside it.
        let mut inline: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while at < code.len() {
            let text = |at: usize| code.get(at).map_or("", |token: &Token| token.text.as_str());
            let first = self.paths.len();
            match text(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.pop_if(|(_, outside)| *outside == depth);
                }
                "mod" if text(at + 2) == "{" => inline.push((code[at + 1].text.clone(), depth)),
                "use" if text(at + 1) != "<" => at = self.use_tree(code, at + 1, &[]),
                _ if code[at].is_name() => {
                    let mut parts = vec![code[at].text.clone()];
                    while text(at + 1) == "::" && code.get(at + 2).is_some_and(Token::is_name) {
                        parts.push(code[at + 2].text.clone());
                        at += 2;
                    }
                    let line = code[at].line;
                    let is_path = parts.len() > 1;
                    self.paths.extend(is_path.then_some(Reference { parts, line }));
                }
                _ => {}
            }
            for path in &mut self.paths[first..] {
                if matches!(path.parts[0].as_str(), "self" | "super") && !inline.is_empty() {
                    let names = inline.iter().map(|(name, _)| name.clone());
                    let module: Vec<String> = self.module.iter().cloned().chain(names).collect();
                    let mut parts = path.in_crate(&module).expect("it begins with self or super");
                    parts.insert(0, "crate".to_owned());
                    parts.extend(
                        (path.parts.last().map(String::as_str) == Some("*"))
                            .then(|| "*".to_owned()),
                    );
                    path.parts = parts;
                }
            }
            at += 1;
        }
    }

    /// Takes the tree of a `use` from `at`, adds its paths and returns the place of its last token.
    fn use_tree(&mut self, code: &[Token], mut at: usize, before: &[String]) -> usize {
        let mut parts = before.to_vec();
        while let Some(token) = code.get(at) {
            match token.text.as_str() {
                "::" => {}
                "{" => {
                    at += 1;
                    while code.get(at).is_some_and(|token| token.text != "}") {
                        at = self.use_tree(code, at, &parts) + 1;
                        at += usize::from(code.get(at).is_some_and(|token| token.text == ","));
                    }
                    return at;
                }
                "as" => at += 1, // the new name follows
                "," | "}" | ";" => break,
                // `a::{self}` is `a`.
                "self" if !parts.is_empty() => {}
                text => parts.push(text.to_owned()),
            }
            at += 1;
        }
        let line = code.get(at).map_or(0, |token| token.line);
        // `use std::os;` would give a short name to what the table names in full.
        let is_prefix = MACHINE.iter().any(|(prefix, _)| {
            let longer = prefix.strip_prefix(&parts.join("::"));
            longer.is_some_and(|rest| rest.starts_with("::"))
        });
        if is_prefix {
            self.faults.push((line, format!("`use {}` is too short to judge", parts.join("::"))));
        }
        self.paths.extend((!parts.is_empty()).then_some(Reference { parts, line }));
        at - 1
    }
}

/// `format/frame.rs` is `format::frame`; the roots are no module.
fn module_of(name: &str) -> Vec<String> {
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    match stem {
        "lib" | "main" => Vec::new(),
        _ => stem.split('/').map(str::to_owned).collect(),
    }
}

/// How many tokens a leading `#[cfg(test)]` or `#[cfg(all(test, …))]` takes, with the attributes
/// behind it.
fn test_attribute(tokens: &[Token]) -> Option<usize> {
    let begins = |words: &[&str]| {
        tokens.len() > words.len()
            && tokens.iter().zip(words).all(|(token, word)| token.text == *word)
    };
    if !begins(&["#", "[", "cfg", "(", "test", ")"])
        && !begins(&["#", "[", "cfg", "(", "all", "(", "test"])
    {
        return None;
    }
    let mut len = 1 + group_len(&tokens[1..]);
    while tokens.get(len).is_some_and(|token| token.text == "#") {
        len += 1 + group_len(&tokens[len + 1..]);
    }
    Some(len)
}

/// How many tokens an item takes: to its `;`, or to the end of its braces; a field or an arm ends
/// with its comma.
fn item_len(tokens: &[Token]) -> usize {
    let mut at = 0;
    let mut is_field = true;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" => return at + 1,
            "," if is_field => return at + 1,
            "{" => return at + group_len(&tokens[at..]),
            "(" | "[" => at += group_len(&tokens[at..]),
            "fn" | "impl" | "struct" | "enum" | "trait" | "type" => {
                (is_field, at) = (false, at + 1)
            }
            _ => at += 1,
        }
    }
    at
}

/// How many tokens there are from an opening bracket to its closing one.
fn group_len(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth <= 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// A name, `::` or a single character of punctuation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c == '_' || c.is_alphabetic())
    }
}

/// The tokens of some code, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        match chars[at] {
            '/' if next == '/' => at = find(&chars, at, "\n"),
            '/' if next == '*' => at = comment_end(&chars, at),
            '"' => at = string_end(&chars, at),
            '\'' if next == '\\' => at = find(&chars, at + 3, "'") + 1,
            '\'' if chars.get(at + 2) == Some(&'\'') => at += 3,
            '\'' => at += 1 + chars[at + 1..].iter().take_while(|c| is_word(**c)).count(),
            ':' if next == ':' => at += 2,
            c if is_word(c) => {
                at += chars[at..].iter().take_while(|c| is_word(**c)).count();
                let word: String = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                let quoted = chars.get(at + hashes) == Some(&'"');
                match word.as_str() {
                    "r" | "br" | "cr" if quoted => {
                        let end = format!("\"{}", "#".repeat(hashes));
                        at = find(&chars, at + hashes + 1, &end) + end.len();
                    }
                    "b" | "c" if quoted && hashes == 0 => at = string_end(&chars, at),
                    "b" if chars.get(at) == Some(&'\'') => continue, // a byte, next
                    "r" if hashes == 1 => at += 1,                   // a raw name, next
                    _ if c.is_numeric() => {}
                    _ => tokens.push(Token { text: word, line }),
                }
            }
            _ => at += 1,
        }
        at = at.min(chars.len());
        let taken = &chars[start..at];
        if matches!(taken, [':', ':'])
            || matches!(taken, [c] if c.is_ascii_punctuation() && *c != '_' && *c != '\'')
        {
            tokens.push(Token { text: taken.iter().collect(), line });
        }
        line += taken.iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Where `end` is, from `at`; the end of the text if it is not there.
fn find(chars: &[char], at: usize, end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    let rest = chars.get(at..).unwrap_or_default();
    let found = rest.windows(end.len()).position(|window| window == end);
    found.map_or(chars.len(), |found| at + found)
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The rules, each kept and broken by a few lines.
mod the_checker {
    use super::{tokens, violations};

    /// Each line of `cases` is `file | code | part of what is said against it`, or `ok`.
    #[track_caller]
    fn judge(cases: &str) {
        for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
            let parts: Vec<&str> = case.splitn(3, " | ").collect();
            let [name, code, said] = parts[..] else {
                panic!("not a case: {case}");
            };
            let found = violations(&[(name.to_owned(), code.to_owned())]);
            let as_said = match said {
                "ok" => found.is_empty(),
                _ => found.iter().any(|fault| fault.contains(said)),
            };
            assert!(as_said, "{case}\n{found:?}");
        }
    }

    #[test]
    fn downward_is_fine_and_upward_is_not() {
        judge(
            r"
            format/frame.rs | use crate::hash::{self, Hash}; | ok
            segment.rs | fn f() -> crate::format::Result<()> { crate::disk::f() } | ok
            pack/writer.rs | use crate::{error::Error, tree, index::{View, build}}; | ok
            archive/create.rs | use crate::error::Error; | ok
            lib.rs | pub mod pack; pub use pack::*; use crate::error::Error; | ok
            hash.rs | use crate::format::Rule; | hash may not import format
            segment.rs | use crate::{hash::Hash, pack}; | segment may not import pack
            segment.rs | use crate::error::Error; | segment may not import error
            error.rs | use crate::pack::Reader; | error may not import pack
            format/x.rs | fn f() { crate::disk::open() } | format may not import disk
            format.rs | use super::disk; | format may not import disk
            format/x.rs | use super::super::disk::File; | format may not import disk
            format/x.rs | use super::{Rule, super::disk}; | format may not import disk
            format.rs | mod x { use super::super::disk; } | format may not import disk
            disk.rs | macro_rules! m { () => { $crate::hash::f() } } | disk may not import hash
            disk.rs | type F = <u8 as crate::hash::T>::U; | disk may not import hash
            disk.rs | use crate::r#hash; | disk may not import hash
            disk.rs | pub(crate) use ::std::io; pub use crate::hash as h; | disk may not import hash
            ",
        );
    }

    #[test]
    fn within_a_module_all_is_fine() {
        judge(
            r"
            format/frame.rs | use super::{Rule, object::RecordRow}; use self::a::B; | ok
            format.rs | use crate::format::frame::F; mod x { use super::Rule; } | ok
            format/a/b.rs | use super::super::frame; | ok
            ",
        );
    }

    #[test]
    fn places_are_told() {
        let text = "//! a\n/* b\n*/ use crate::hash::H;\n\nuse crate::pack;\n";
        let found = violations(&[("format.rs".to_owned(), text.to_owned())]);
        let said = "src/format.rs:5: format may not import pack (`crate::pack`)";
        assert_eq!(found, [said]);
    }

    #[test]
    fn nothing_hides_an_edge() {
        judge(
            r#"
            format.rs | use crate::*; | a glob
            format.rs | use crate::hash::*; | a glob
            format/x.rs | use super::*; | a glob
            format/x.rs | use super::{self, *}; | a glob
            format.rs | mod x { use super::*; } | a glob
            pack.rs | use rayon::prelude::*; | a glob
            format.rs | fn f() { use FileKind::*; use crate::hash::Kind::*; } | ok
            pack.rs | use crate::Error; | goes through the crate root
            pack.rs | use crate as root; | goes through the crate root
            pack.rs | use super as root; | goes through the crate root
            pack.rs | use crate::{self as root}; | goes through the crate root
            pack.rs | use pefc::Error; | does not import itself
            pack.rs | extern crate self as root; | extern crate
            pack.rs | #[path = "x.rs"] mod x; | #[path]
            utils.rs | const A: u8 = 0; | has no row
            bin/other.rs | fn main() {} | has no row
            "#,
        );
    }

    #[test]
    fn tests_may_do_more() {
        judge(
            r"
            format.rs | #[cfg(test)] mod tests { use super::*; use std::fs; } | ok
            format.rs | #[cfg(test)] #[allow(x)] mod tests { mod a { use crate::pack; } } | ok
            format.rs | #[cfg(all(test, unix))] fn f() -> [u8; 2] { std::fs::f() } | ok
            format.rs | #[cfg(test)] use std::fs; | ok
            format.rs | #[cfg(test)] fn f<A, B>(a: A) -> B { std::fs::f() } | ok
            format.rs | struct A { #[cfg(test)] a: std::fs::File, b: u8 } | ok
            format.rs | struct A { #[cfg(test)] a: u8, b: std::fs::File } | std::fs
            format.rs | #[cfg(test)] mod t { } use std::fs; | std::fs
            format.rs | #[cfg(test)] fn f(); fn g() { std::fs::f() } | std::fs
            format.rs | #[cfg(not(test))] use std::fs; | std::fs
            ",
        );
        let files = |parent: &str| {
            violations(&[
                ("format.rs".to_owned(), parent.to_owned()),
                ("format/tests.rs".to_owned(), "use super::*;".to_owned()),
                ("format/tests/a.rs".to_owned(), "use std::fs;".to_owned()),
                ("format/tests/b.rs".to_owned(), "unsafe fn f() {}".to_owned()),
            ])
        };
        assert_eq!(files("#[cfg(test)] mod tests;").len(), 1);
        assert_eq!(files("mod tests;").len(), 3);
    }

    #[test]
    fn only_disk_touches_the_machine() {
        judge(
            r#"
            disk/file.rs | use std::{fs, io}; use std::time::SystemTime; use rustix::fs::x; | ok
            format.rs | use std::{fmt, io}; fn fs() {} let time = env!("X"); | ok
            archive.rs | use std::os::unix::ffi::OsStrExt; | ok
            main.rs | use std::{env, time::Instant}; | ok
            format.rs | use std::{fmt, fs::File}; | format may not use std::fs
            pack.rs | fn f() { ::std::fs::remove_file(p) } | pack may not use std::fs
            cli.rs | use std::fs; | cli may not use std::fs
            pack.rs | use std::net::TcpStream; | pack may not use std::net
            disk.rs | use std::net::TcpStream; | disk may not use std::net
            disk.rs | fn f() { std::env::var(x) } | disk may not use std::env
            pack.rs | let t = core::time::Duration::ZERO; | pack may not use std::time
            archive.rs | use std::os::unix::fs::MetadataExt; | std::os::unix::fs
            archive.rs | use rustix::fs::openat; | archive may not use rustix
            archive.rs | use std::{os, io}; | too short to judge
            archive.rs | use std as s; | too short to judge
            "#,
        );
    }

    #[test]
    fn unsafe_code_has_one_file() {
        judge(
            r"
            disk/mmap.rs | #[expect(unsafe_code)] fn f() { unsafe { g() } } | ok
            lib.rs | #![deny(unsafe_code)] #![forbid(x, unsafe_code)] | ok
            disk/file.rs | fn f() { unsafe { g() } } | unsafe code is in
            hash.rs | #[expect(unsafe_code)] fn f() {} | unsafe code is in
            hash.rs | #![allow(dead_code, unsafe_code)] | unsafe code is in
            hash.rs | #[cfg(test)] mod tests { unsafe fn f() {} } | unsafe code is in
            ",
        );
    }

    #[test]
    fn the_command_is_a_user_of_the_library() {
        judge(
            r"
            main.rs | mod cli; use pefc::Error; fn main() { crate::cli::run() } | ok
            cli/list.rs | use super::Report; use crate::cli::args; use pefc::pack::Reader; | ok
            cli.rs | use crate::cli_text::f; | ok
            main.rs | mod pack; use crate::pack::Reader; | two crates
            cli/list.rs | use crate::error::Error; | two crates
            pack.rs | use crate::cli::Report; | two crates
            cli/list.rs | use crate::{helper}; | uses the library as `pefc::`
            cli_text.rs | use super::super::x; | uses the library as `pefc::`
            cli.rs | fn f() { crate::main() } | cli may not import main
            lib.rs | mod cli; | main.rs has it
            ",
        );
    }

    #[test]
    fn cycles_are_found_whatever_the_table_says() {
        let files = [
            ("index.rs", "use crate::segment::A; use crate::index::I;"),
            ("segment.rs", "use crate::error::B;"),
            ("error.rs", "use crate::index::C; use crate::hash::D;"),
        ];
        let found = violations(&files.map(|(name, text)| (name.to_owned(), text.to_owned())));
        let cycle = "a cycle: error -> index -> segment -> error".to_owned();
        assert!(found.contains(&cycle), "{found:?}");
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        for text in [
            "// use crate::pack;\n",
            "/// [`crate::pack`] and `std::fs::File`\n",
            "/* a /* use std::fs; */ use crate::pack; */",
            r#"let s = "use crate::pack; \" std::fs::x";"#,
            r##"let s = b"\\"; let t = r#"" std::fs::x "#; let u = br"std::fs::x\";"##,
            r#"let c = ('"', '\'', b'"', '\u{7f}'); fn f<'a>(x: &'a str) -> &'static str {}"#,
        ] {
            judge(&format!("hash.rs | {} | ok", text.trim_end()));
            let then = format!("{text}\nuse crate::pack;");
            let found = violations(&[("hash.rs".to_owned(), then)]);
            assert_eq!(found.len(), 1, "{text}\n{found:?}");
        }
    }

    #[test]
    fn tokens_are_what_they_seem() {
        let text = "use a::b as c; x: 1..=2u8, r#fn 'l: 'x' '\\n' 0x1f.e()";
        let found: Vec<String> = tokens(text).into_iter().map(|token| token.text).collect();
        assert_eq!(found.join(" "), "use a :: b as c ; x : . . = , fn : . e ( )");
    }
}
