//! What `README.md` names exists: files, targets, flags, variables, reasons; and its objects are real ones.

use std::collections::BTreeSet;

use clap::CommandFactory;
use secrets_distributor::{cli::Cli, telemetry::traces::VARIABLES};

use super::{read, root, words_of_objects};

/// Kinds that the README names in the form of a reason.
const KINDS: [&str; 4] = ["SecretsDistribution", "DistributionPolicy", "RoleBinding", "ValidatingAdmissionPolicy"];

/// A fenced block: the words after the fence, and its text without the indentation of the fence.
struct Block {
    info: Vec<String>,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let text = lines.by_ref().take_while(|line| line.trim() != "```");
        let text = text.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
        blocks.push(Block { info: info.split_whitespace().map(str::to_owned).collect(), text });
    }
    blocks
}

/// The text without its fenced blocks.
pub fn prose(markdown: &str) -> String {
    markdown.split("```").step_by(2).collect()
}

/// What stands between backticks in the prose.
pub fn spans(markdown: &str) -> Vec<String> {
    prose(markdown).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The commands of the blocks that are marked, each on one line and without comments.
pub fn commands(markdown: &str) -> Vec<String> {
    let marked = |block: &Block| block.info.iter().any(|word| word == "checked" || word == "tutorial");
    let scripts = blocks(markdown).into_iter().filter(marked).map(|block| block.text.replace("\\\n", " "));
    let lines: Vec<_> = scripts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let commands = lines.iter().map(|line| line.split(" #").next().unwrap().trim().to_owned());
    commands.filter(|command| !command.is_empty()).collect()
}

/// What is wrong with a command, as far as it is about this repository.
pub fn problems(command: &str) -> Vec<String> {
    let words: Vec<_> = command.split_whitespace().collect();
    let assignments = words.iter().filter_map(|word| word.split_once('=')).map(|(name, _)| name);
    let variables = assignments.filter(|name| is_variable(name) && !is_known_variable(name));
    let mut problems: Vec<_> = variables.map(|name| format!("variable {name}")).collect();
    let after = |flag: &'static str| words.iter().zip(words.iter().skip(1)).filter(move |(word, _)| **word == flag);
    problems
        .extend(after("-f").filter(|(_, path)| !root().join(path).exists()).map(|(_, path)| format!("file {path}")));
    problems.extend(after("--test").filter(|(_, test)| !is_test(test)).map(|(_, test)| format!("test {test}")));
    if words.first() == Some(&"make") {
        let targets = words.iter().skip(1).filter(|word| !word.contains('=') && !is_target(word));
        problems.extend(targets.map(|target| format!("target {target}")));
    }
    if let Some(at) = words.windows(3).position(|window| window == ["run", "--", "run"]) {
        let flags = words[at + 3..].iter().filter(|word| word.starts_with("--") && !is_flag(word));
        problems.extend(flags.map(|flag| format!("flag {flag}")));
    }
    problems
}

pub fn is_variable(name: &str) -> bool {
    name.len() > 1 && name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_')
}

pub fn is_known_variable(name: &str) -> bool {
    let command = Cli::command();
    let mut arguments = command.get_subcommands().flat_map(|command| command.get_arguments());
    let of_a_command = arguments.any(|arg| arg.get_env().is_some_and(|env| env == name));
    let programs = ["e2e/src/supervisor/mod.rs", "e2e/src/promtool.rs", "e2e/src/kube_score.rs"];
    let mut files = ["Makefile", "src/settings.rs", "tests/generated/main.rs"].into_iter().chain(programs);
    let of_telemetry = VARIABLES.iter().any(|variable| variable.name == name);
    of_a_command || of_telemetry || files.any(|file| read(file).contains(name))
}

pub fn is_flag(flag: &str) -> bool {
    let command = Cli::command();
    let mut arguments = command.get_subcommands().flat_map(|command| command.get_arguments());
    arguments.any(|arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)))
}

fn is_test(name: &str) -> bool {
    let places = ["tests", "e2e/tests"].map(|folder| root().join(folder).join(name));
    places.iter().any(|place| place.with_extension("rs").is_file() || place.join("main.rs").is_file())
}

fn is_target(name: &str) -> bool {
    read("Makefile").lines().any(|line| line.starts_with(&format!("{name}:")))
}

/// CI does not run it: a night is too short for all of it.
#[test]
fn what_make_mutants_copies_exists() {
    let script = read(".ci/mutants/run");
    let copied = script.lines().filter_map(|line| line.strip_prefix("cp -r ")).flat_map(str::split_whitespace);
    let paths: Vec<_> = copied.filter(|path| !path.starts_with('"')).collect();
    assert!(paths.len() > 5, "{paths:?}");
    paths.iter().for_each(|path| assert!(root().join(path).exists(), "{path}"));
}

#[test]
fn its_commands_name_what_exists() {
    let text = format!("{}\n{}", read("README.md"), read("docs/benchmarks.md"));
    let commands = commands(&text);
    assert!(["make demo", "make bench"].iter().all(|make| commands.iter().any(|it| it == make)), "{commands:?}");
    let inline = spans(&text).into_iter().filter(|span| span.contains("cargo ") || span.starts_with("make "));
    for command in commands.into_iter().chain(inline) {
        assert_eq!(problems(&command), Vec::<String>::new(), "in: {command}");
    }
}

#[test]
fn a_command_that_names_what_does_not_exist_is_found() {
    for (command, problem) in [
        ("make nonsense", "target nonsense"),
        ("make demo NONSENSE=1", "variable NONSENSE"),
        ("NONSENSE=1 cargo test --test docs", "variable NONSENSE"),
        ("cargo test --test nonsense", "test nonsense"),
        ("kubectl apply -f nonsense/", "file nonsense/"),
        ("cargo run -- run --nonsense x", "flag --nonsense"),
    ] {
        assert_eq!(problems(command), [problem]);
    }
}

#[test]
fn its_words_are_those_of_the_code() {
    let known: BTreeSet<_> = words_of_objects().chain(KINDS).collect();
    for span in spans(&read("README.md")) {
        let word = span.as_str();
        let in_humps = word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.bytes().all(|c| c.is_ascii_alphabetic())
            && word.bytes().any(|c| c.is_ascii_lowercase());
        assert!(!in_humps || known.contains(word), "README.md names `{word}`, which is no reason");
        assert!(!is_variable(word) || is_known_variable(word), "README.md names `{word}`, which is no variable");
        let flag = word.starts_with("--") && !word.contains(' ');
        assert!(!flag || is_flag(word), "README.md names `{word}`, which is no flag");
    }
}

#[test]
fn its_objects_are_the_examples() {
    let readme = read("README.md");
    let objects: Vec<_> = blocks(&readme).into_iter().filter(|block| block.info[0] == "yaml").collect();
    assert!(!objects.is_empty());
    for block in objects {
        let file = block.info.get(1).expect("a yaml block names its file");
        assert_eq!(block.text, read(file), "README.md does not show {file}");
    }
}

#[test]
fn its_links_lead_somewhere() {
    let readme = read("README.md");
    for link in prose(&readme).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let found = match link.strip_prefix('#') {
            Some(anchor) => readme.lines().any(|line| {
                line.strip_prefix("## ").is_some_and(|title| title.to_lowercase().replace(' ', "-") == anchor)
            }),
            None => link.starts_with("https://") || root().join(link).exists(),
        };
        assert!(found, "README.md links to {link}, which does not exist");
    }
}
