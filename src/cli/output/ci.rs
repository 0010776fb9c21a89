//! Forms that systems for continuous integration read: annotations of GitHub, and JUnit's XML.

use std::{fmt::Write, path::Path};

use clap::ValueEnum;

/// The form of a report about files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// Annotations that GitHub shows at the line of the file.
    Github,
    /// XML that most systems for continuous integration read.
    Junit,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `::error`
    Error,
    /// `::warning`
    Warning,
    /// `::notice`
    Notice,
}

/// An annotation of GitHub: a command on a line of its own.
pub fn annotation(level: Level, file: &Path, line: usize, title: &str, message: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let file = property(&file.display().to_string());
    format!("::{level} file={file},line={line},title={}::{}\n", property(title), data(message))
}

/// Within a message a percent sign and the ends of lines are escaped, within a property also what separates it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A test suite of JUnit.
#[derive(Debug)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its cases.
    pub cases: Vec<Case>,
}

/// A test case of JUnit.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Its line.
    pub line: usize,
    /// Why it failed; nothing if it did not.
    pub failures: Vec<String>,
}

/// Suites as JUnit's XML.
pub fn junit(suites: &[Suite]) -> String {
    let failed = |suite: &Suite| suite.cases.iter().filter(|case| !case.failures.is_empty()).count();
    let tests: usize = suites.iter().map(|suite| suite.cases.len()).sum();
    let failures: usize = suites.iter().map(failed).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites tests=\"{tests}\" failures=\"{failures}\">");
    for suite in suites {
        let (name, tests, failures) = (escaped(&suite.name), suite.cases.len(), failed(suite));
        let _ = writeln!(xml, "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\">");
        suite.cases.iter().for_each(|case| write_case(&mut xml, suite, case));
        xml.push_str("  </testsuite>\n");
    }
    xml + "</testsuites>\n"
}

fn write_case(xml: &mut String, suite: &Suite, case: &Case) {
    let (name, class, file) = (escaped(&case.name), escaped(&suite.name), escaped(&suite.file));
    let _ = write!(xml, "    <testcase classname=\"{class}\" name=\"{name}\" file=\"{file}\" line=\"{}\"", case.line);
    match case.failures.first() {
        None => xml.push_str("/>\n"),
        Some(first) => {
            let (first, all) = (escaped(first), escaped(&case.failures.join("\n")));
            let _ = writeln!(xml, ">\n      <failure message=\"{first}\">{all}</failure>\n    </testcase>");
        }
    }
}

/// Text for XML; characters that it cannot hold are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_stays_on_its_line() {
        let told = annotation(Level::Error, Path::new("a,b/c.yaml"), 3, "x: y", "100 %\nmore: a, b");
        assert_eq!(told, "::error file=a%2Cb/c.yaml,line=3,title=x%3A y::100 %25%0Amore: a, b\n");
    }

    #[test]
    fn xml_holds_any_text() {
        let case = |name: &str, failures: &[&str]| Case {
            name: name.into(),
            line: 7,
            failures: failures.iter().map(ToString::to_string).collect(),
        };
        let cases = vec![case("good", &[]), case("<bad>", &["a & \"b\"\u{7}", "more"])];
        let xml = junit(&[Suite { name: "t".into(), file: "t.yaml".into(), cases }]);
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="2" failures="1">
  <testsuite name="t" tests="2" failures="1">
    <testcase classname="t" name="good" file="t.yaml" line="7"/>
    <testcase classname="t" name="&lt;bad&gt;" file="t.yaml" line="7">
      <failure message="a &amp; &quot;b&quot;�">a &amp; &quot;b&quot;�&#10;more</failure>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(xml, expected);
    }
}
