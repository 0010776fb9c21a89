//! How answers are written: on standard output, in colour only where a person reads them.

pub mod ci;
pub mod style;
pub mod table;
pub mod tree;

use std::{
    fmt,
    io::{ErrorKind, IsTerminal, Write},
};

use clap::{
    ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;

use super::error::Error;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; fits the terminal.
    Table,
    /// For people, with everything.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// For spreadsheets.
    Csv,
}

impl Format {
    /// A parser of `--output` that knows these forms only.
    pub fn among(formats: &[Self]) -> impl TypedValueParser<Value = Self> + use<> {
        let values = formats.iter().filter_map(ValueEnum::to_possible_value);
        PossibleValuesParser::new(values).try_map(|text| Self::from_str(&text, false))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().iter().map(|value| value.get_name()).next().unwrap_or_default())
    }
}

/// Colour, for every command that prints for people.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ColorArgs {
    /// No colour, also on a terminal. The same as a variable NO_COLOR that is not empty.
    #[arg(long, help_heading = "Output")]
    no_color: bool,
}

impl ColorArgs {
    /// Holds from here on.
    pub fn apply(self) {
        if self.no_color {
            anstream::ColorChoice::Never.write_global();
        }
    }
}

/// Prints an answer; styles in it show on a terminal only.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who reads it has had enough: that is no failure, and what the exit code says stays so.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Error::System("cannot write the answer", error)),
    }
}

/// Prints what is not the answer, on standard error.
pub fn tell(text: &str) {
    // There is nobody else to tell that it failed.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a value as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::System("cannot write JSON", error.into()))?;
    print(&format!("{text}\n"))
}

/// Prints a value as YAML.
pub fn print_yaml(value: &impl Serialize) -> Result<(), Error> {
    print(&yaml(value)?)
}

/// A value as YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, Error> {
    // By way of a JSON value, so that both forms have the same fields.
    let value = serde_json::to_value(value).map_err(|error| Error::System("cannot write YAML", error.into()))?;
    let text = serde_saphyr::to_string(&value);
    let text = text.map_err(|error| Error::System("cannot write YAML", std::io::Error::other(error)))?;
    Ok(format!("{}\n", text.trim_end()))
}

/// A number and what is counted, in the plural if it is not one.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Columns of the terminal; none, if the answer goes elsewhere.
pub fn width() -> Option<usize> {
    let terminal = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    terminal.map(|(terminal_size::Width(columns), _)| usize::from(columns))
}
