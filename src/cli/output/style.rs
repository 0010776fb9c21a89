//! Styles. They show on a terminal only, see [`super::print`].

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// Yes.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// No.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Names that the answer is about.
pub const STRONG: Style = Style::new().bold();
/// What matters less.
pub const FAINT: Style = Style::new().dimmed();
/// What is to be typed.
pub const COMMAND: Style = AnsiColor::Cyan.on_default();

/// The text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}
