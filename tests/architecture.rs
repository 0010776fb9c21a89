//! The rules of the code's layout. Each violation is told with its file, its line and the rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use secrets_distributor::api::names;

const MAX_LINES: usize = 400;

/// Which modules each module may know; arrows point one way. A new module needs a line here.
const ARROWS: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("core", &["api"]),
    ("source", &["api", "core"]),
    ("limits", &["api", "core"]),
    ("telemetry", &["api", "core"]),
    ("access", &["api"]),
    ("rbac", &["api", "access"]),
    ("admission", &["api", "core", "rbac"]),
    ("admin", &["api", "core", "telemetry"]),
    ("error", &[]),
    ("client", &["telemetry"]),
    ("lease", &["api", "admin", "error", "client", "telemetry", "rbac"]),
    ("settings", &["api", "core", "access", "telemetry", "lease"]),
    ("cli", &["api", "core", "access", "rbac", "settings", "telemetry"]),
    (
        "controller",
        &["api", "core", "access", "source", "limits", "telemetry", "rbac", "admin", "error", "lease", "settings"],
    ),
    (
        "process",
        &["api", "core", "source", "limits", "telemetry", "rbac", "admin", "client", "lease", "settings", "controller"],
    ),
];

/// Words that would make a pure module impure: runtimes, clients, clocks, files, the environment.
const IMPURE: &[&str] = &[
    "tokio",
    "tracing",
    "rustix",
    "Client",
    "Api",
    "runtime",
    "fs",
    "env",
    "net",
    "process",
    "thread",
    "SystemTime",
    "Instant",
    "random",
];

/// A source file: its path, its text, and its code with comments and strings blanked.
struct Source {
    path: PathBuf,
    text: String,
    code: String,
}

impl Source {
    /// The module of the crate that the file belongs to.
    fn module(&self) -> String {
        let path = self.path.strip_prefix("src").unwrap();
        path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").into()
    }

    /// The code without the tests, in the same file or in a folder of their own: they may do what they need.
    fn shipped(&self) -> &str {
        let is_test = self.path.starts_with("src") && self.path.iter().any(|part| part == "tests");
        if is_test { "" } else { self.code.split("#[cfg(test)]").next().unwrap() }
    }

    fn violation(&self, offset: usize, rule: &str) -> String {
        format!("{}:{}: {rule}", self.path.display(), 1 + self.code[..offset].matches('\n').count())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().into();
                sources.push(Source { path, code: blanked(&text).0, text });
            }
        }
    }
    assert!(!sources.is_empty(), "{folder} has no source");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// The text with comments and the content of strings blanked, every byte in its place; and the strings, with
/// their offsets.
fn blanked(text: &str) -> (String, Vec<(usize, String)>) {
    let (bytes, mut code, mut strings, mut at) = (text.as_bytes(), text.as_bytes().to_vec(), Vec::new(), 0);
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            at + rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") {
            at + 3
        } else if rest.starts_with("'\\") {
            at + 4 + rest[3..].find('\'').unwrap()
        } else if let Some((open, close)) = string_delimiters(rest) {
            let content = at + open.len();
            let end = content + string_length(&text[content..], &close);
            strings.push((at, text[content..end].to_string()));
            end + close.len()
        } else {
            at += rest.chars().next().unwrap().len_utf8();
            continue;
        };
        code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    (String::from_utf8(code).unwrap(), strings)
}

fn string_delimiters(rest: &str) -> Option<(String, String)> {
    if rest.starts_with('"') {
        return Some(("\"".into(), "\"".into()));
    }
    let hashes = rest.strip_prefix('r')?.bytes().take_while(|byte| *byte == b'#').count();
    let hashes = "#".repeat(hashes);
    let open = format!("r{hashes}\"");
    rest.starts_with(&open).then(|| (open, format!("\"{hashes}")))
}

/// Length of a string's content up to its closing delimiter; in a plain string a backslash escapes.
fn string_length(rest: &str, close: &str) -> usize {
    if close.len() > 1 {
        return rest.find(close).unwrap();
    }
    let mut escaped = false;
    let ends = |(_, c): &(usize, char)| {
        let end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    };
    rest.char_indices().find(ends).unwrap().0
}

/// The words of the code and where each begins.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let start = code.as_ptr() as usize;
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.map(move |word| (word.as_ptr() as usize - start, word))
}

/// The modules of the crate that the code names, in `crate::x` and in `crate::{x::..., y::...}`.
fn modules_named(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let path = &code[at + "crate::".len()..];
        let Some(group) = path.strip_prefix('{') else {
            named.push((at, words(path).next().unwrap().1.to_string()));
            continue;
        };
        let (mut depth, mut expects_name) = (0, true);
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects_name = true,
                c if expects_name && c.is_alphabetic() => {
                    named.push((at, words(&group[offset..]).next().unwrap().1.to_string()));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    named
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn api_and_core_are_pure() {
    let mut violations = Vec::new();
    for source in sources("src/api").into_iter().chain(sources("src/core")) {
        let code = source.shipped();
        let reads_a_clock = |at: usize, word: &str| word == "now" && code[..at].ends_with("::");
        for (at, word) in words(code).filter(|(at, word)| IMPURE.contains(word) || reads_a_clock(*at, word)) {
            let rule = format!("`{word}`: api and core have no client, runtime, clock, file system or environment");
            violations.push(source.violation(at, &rule));
        }
    }
    assert_none(violations);
}

#[test]
fn arrows_point_one_way() {
    let mut violations = Vec::new();
    for source in sources("src") {
        let module = source.module();
        if ["main", "lib"].contains(&module.as_str()) {
            continue;
        }
        let Some((_, may_know)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            violations.push(source.violation(0, &format!("say in ARROWS what module `{module}` may know")));
            continue;
        };
        for (at, named) in modules_named(source.shipped()) {
            let is_module = ARROWS.iter().any(|(name, _)| *name == named);
            if is_module && named != module && !may_know.contains(&named.as_str()) {
                violations.push(source.violation(at, &format!("`{module}` must not know `{named}`")));
            }
        }
        for (at, _) in source.shipped().match_indices("super::super") {
            violations.push(source.violation(at, "name it from `crate::`: arrows are read from there"));
        }
    }
    assert_none(violations);
}

#[test]
fn files_are_short() {
    let mut violations = Vec::new();
    for source in ["src", "tests", "e2e"].into_iter().flat_map(sources) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            violations
                .push(source.violation(0, &format!("{lines} lines: a file has one subject and at most {MAX_LINES}")));
        }
    }
    assert_none(violations);
}

/// The types of Secrets are exempt: rendering has to know what each needs.
#[test]
fn the_names_the_operator_writes_are_spelled_once() {
    let text = fs::read_to_string(root().join("src/api/names.rs")).unwrap();
    let spelled = blanked(&text).1.into_iter().map(|(_, string)| string);
    let fixed: Vec<_> = spelled
        .filter(|name| !names::DATA_TYPES.contains(&name.as_str()) && !names::RESERVED_TYPES.contains(&name.as_str()))
        .collect();
    assert!(fixed.contains(&names::OWNER_UID.to_string()));
    let mut violations = Vec::new();
    for source in sources("src").into_iter().filter(|source| source.module() != "api") {
        let shipped = source.shipped().len();
        for (at, string) in blanked(&source.text).1.into_iter().filter(|(at, _)| *at < shipped) {
            if fixed.contains(&string) || string.contains(names::GROUP) && !string.contains(' ') {
                violations.push(source.violation(at, &format!("{string:?} is spelled in api::names only")));
            }
        }
    }
    assert_none(violations);
}

#[test]
fn the_rules_see_through_groups_strings_and_comments() {
    let (code, strings) =
        blanked("use crate::{api::{a, b}, core}; // tokio\nlet x = \"t\\\"okio\"; r#\"fs\"#; '\"'; crate::admin::x");
    assert!(!words(&code).any(|(_, word)| IMPURE.contains(&word)), "{code}");
    assert_eq!(strings.iter().map(|(_, string)| string.as_str()).collect::<Vec<_>>(), ["t\\\"okio", "fs"]);
    let named: Vec<_> = modules_named(&code).into_iter().map(|(_, module)| module).collect();
    assert_eq!(named, ["api", "core", "admin"]);
}
