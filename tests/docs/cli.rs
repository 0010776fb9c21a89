//! `docs/cli.md` is generated from the command line: this compares it, `BLESS=1` rewrites it.

use std::{collections::BTreeMap, fs};

use clap::{Arg, Command, CommandFactory};
use schemars::schema_for;
use secrets_distributor::{
    api::findings::FindingCode,
    cli::{Cli, can_i, explain, plan, who_gets},
};

use super::reference::{code, help, section};

const FILE: &str = "docs/cli.md";

const ABOUT: &str = "\
# The command line

The operator's own binary answers questions about policies and requests, with the rights of who asks; also as a plugin
of kubectl: as `kubectl-distribute` in the `PATH` it is `kubectl distribute`. The decisions are made by the functions
that the operator itself decides by. What `run` takes is in [reference.md](reference.md).
";

#[test]
fn the_pages_are_those_of_the_commands() {
    let text = page();
    if std::env::var_os("BLESS").is_some() {
        fs::write(super::root().join(FILE), &text).unwrap();
    }
    let current = fs::read_to_string(super::root().join(FILE)).is_ok_and(|found| found == text);
    assert!(current, "{FILE} is not what the code says; run: BLESS=1 cargo test --test docs");
}

#[test]
fn the_schemas_are_those_of_the_answers() {
    let schemas = [
        ("explain", schema_for!(explain::Answer)),
        ("can-i", schema_for!(can_i::Catalogue)),
        ("plan", schema_for!(plan::Answer)),
        ("who-gets", schema_for!(who_gets::Answer)),
    ];
    for (command, schema) in schemas {
        let file = super::root().join(format!("docs/{command}.schema.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let current = fs::read_to_string(&file).is_ok_and(|found| found == text);
        assert!(current, "{} is not what the code says; run: BLESS=1 cargo test --test docs", file.display());
    }
}

fn page() -> String {
    let mut command = Cli::command();
    command.build();
    let questions: Vec<_> =
        command.get_subcommands().filter(|sub| !["run", "help"].contains(&sub.get_name())).collect();
    let mut shared: BTreeMap<String, Vec<&Arg>> = BTreeMap::new();
    for arg in questions.iter().flat_map(|question| options(question)) {
        let Some(heading) = arg.get_help_heading() else { continue };
        let known = shared.entry(heading.to_string()).or_default();
        if known.iter().all(|known| known.get_id() != arg.get_id()) {
            known.push(arg);
        }
    }
    let pages = questions.iter().map(|question| page_of(question));
    let about = "Options that several commands have.";
    let shared = shared.iter().map(|(heading, args)| table(heading, about, args));
    let ends = [findings(), exit_codes(&command)];
    let header = super::reference::HEADER;
    format!("{header}{ABOUT}\n{}", pages.chain(shared).chain(ends).collect::<Vec<_>>().join("\n"))
}

fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
}

fn page_of(command: &Command) -> String {
    let long = command.get_long_about().or(command.get_about()).expect("each command says what it does");
    let usage = command.clone().render_usage().to_string();
    let own: Vec<_> = options(command).filter(|arg| arg.get_help_heading().is_none()).collect();
    let mut headings: Vec<_> = options(command).filter_map(Arg::get_help_heading).collect();
    headings.sort_unstable();
    headings.dedup();
    let links: Vec<_> = headings.iter().map(|heading| format!("[{heading}](#{})", anchor(heading))).collect();
    let links = if links.is_empty() { String::new() } else { format!("\nMore options: {}.\n", links.join(", ")) };
    let after = command.get_after_help().map(|help| format!("\n```text\n{help}\n```\n")).unwrap_or_default();
    let about = format!("{long}\n\n```text\n{}\n```", usage.trim_start_matches("Usage: "));
    format!("{}{links}{after}", table(command.get_name(), &about, &own))
}

fn table(title: &str, about: &str, args: &[&Arg]) -> String {
    let rows = args.iter().map(|arg| {
        let default = arg.get_default_values().first().and_then(|value| value.to_str()).map(code).unwrap_or_default();
        vec![code(&spelled(arg)), default, format!("{}{}", help(arg), values(arg))]
    });
    match args.is_empty() {
        true => format!("## {title}\n\n{about}\n"),
        false => section(title, about, &["option", "default", "meaning"], rows),
    }
}

fn spelled(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first()).filter(|_| arg.get_action().takes_values());
    let value = value.map(|name| format!(" {name}")).unwrap_or_default();
    match (arg.get_long(), arg.get_short()) {
        (Some(long), Some(short)) => format!("-{short}, --{long}{value}"),
        (Some(long), None) => format!("--{long}{value}"),
        _ => value.trim().to_string(),
    }
}

/// The values that are possible, if they are few.
fn values(arg: &Arg) -> String {
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| code(value.get_name())).collect();
    match arg.get_action().takes_values() && !values.is_empty() {
        true => format!(": {}", values.join(", ")),
        false => String::new(),
    }
}

fn findings() -> String {
    let rows = FindingCode::ALL
        .iter()
        .map(|finding| vec![code(finding.as_str()), finding.severity().as_str().into(), finding.description().into()]);
    let about = "What `validate` finds. Errors make it fail, with `--strict` warnings, too.";
    section("Findings", about, &["code", "severity", "what"], rows)
}

fn exit_codes(command: &Command) -> String {
    let help = command.get_after_help().expect("exit codes").to_string();
    let (_, codes) = help.split_once("Exit codes:\n").expect("exit codes");
    let rows = codes.lines().map(|line| {
        let (code, meaning) = line.trim().split_once(' ').expect("code and meaning");
        vec![code.to_string(), meaning.trim().to_string()]
    });
    section("Exit codes", "Of every command but `run`.", &["code", "meaning"], rows)
}

fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}
