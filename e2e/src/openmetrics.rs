//! Reading OpenMetrics text, and refusing what is none: a scraper would drop the whole answer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// What one scrape has shown.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The metrics by name, without the suffixes of their series.
    pub families: BTreeMap<String, Family>,
}

/// One metric.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Its type.
    pub kind: String,
    /// Its unit, if it has one.
    pub unit: Option<String>,
    /// What it says.
    pub help: String,
    /// Its series.
    pub samples: Vec<Sample>,
}

/// The value of one series.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name, with the suffix.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// The labels of its exemplar, if it has one.
    pub exemplar: Option<Labels>,
}

/// Labels and their values.
pub type Labels = BTreeMap<String, String>;

impl Scrape {
    /// Reads a whole answer.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.strip_suffix("# EOF\n").context("it does not end with # EOF")?;
        let mut scrape = Self::default();
        let mut current = None;
        for line in lines.lines() {
            scrape.line(line, &mut current).with_context(|| line.to_owned())?;
        }
        scrape.families.iter().try_for_each(|(name, family)| family.check(name).with_context(|| name.clone()))?;
        Ok(scrape)
    }

    fn line(&mut self, line: &str, current: &mut Option<String>) -> Result<()> {
        let Some(metadata) = line.strip_prefix("# ") else {
            let name = current.as_ref().context("a sample before its metric")?;
            let family = self.families.get_mut(name).context("a sample before its metric")?;
            return family.add(name, Sample::parse(line)?);
        };
        let (word, rest) = metadata.split_once(' ').context("no metadata")?;
        let (name, told) = rest.split_once(' ').context("metadata without a value")?;
        ensure!(is_name(name), "{name:?} is no name");
        if current.as_deref() != Some(name) {
            ensure!(!self.families.contains_key(name), "the metric stands in two places");
            *current = Some(name.to_owned());
        }
        let family = self.families.entry(name.to_owned()).or_default();
        ensure!(family.samples.is_empty(), "metadata after a sample");
        match word {
            "HELP" => family.help = told.to_owned(),
            "TYPE" => family.kind = told.to_owned(),
            "UNIT" => family.unit = Some(told.to_owned()),
            _ => bail!("{word:?} is no metadata"),
        }
        Ok(())
    }

    /// Every series of that name.
    pub fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.filter(move |sample| sample.name == name)
    }

    /// Every series.
    pub fn all(&self) -> impl Iterator<Item = &Sample> {
        self.families.values().flat_map(|family| &family.samples)
    }

    /// The sum of the series of that name that have these labels, and maybe others. `None`: there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).map(String::as_str) == Some(value))
        };
        self.series(name).filter(has).map(|sample| sample.value).reduce(|a, b| a + b)
    }
}

impl Family {
    fn add(&mut self, name: &str, sample: Sample) -> Result<()> {
        let suffixes: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            kind => bail!("the type {kind:?} is not expected"),
        };
        let suffix = sample.name.strip_prefix(name).filter(|suffix| suffixes.contains(suffix));
        let suffix = suffix.with_context(|| format!("it does not belong to the {} {name}", self.kind))?;
        let may_shrink = ["", "_sum"].contains(&suffix);
        ensure!(may_shrink || sample.value >= 0.0, "it is negative");
        ensure!(suffix != "_info" || sample.value == 1.0, "an info is 1");
        ensure!(sample.exemplar.is_none() || ["_total", "_bucket"].contains(&suffix), "an exemplar has no place here");
        self.samples.push(sample);
        Ok(())
    }

    fn check(&self, name: &str) -> Result<()> {
        ensure!(!self.help.is_empty() && !self.kind.is_empty(), "it has no help or no type");
        let unit = self.unit.as_ref().map(|unit| format!("_{unit}")).unwrap_or_default();
        ensure!(name.ends_with(&unit), "it does not end with its unit {unit}");
        let distinct: BTreeSet<_> = self.samples.iter().map(|sample| (&sample.name, &sample.labels)).collect();
        ensure!(distinct.len() == self.samples.len(), "a series is there twice");
        ensure!(!self.samples.is_empty(), "it has no series");
        if self.kind == "histogram" { self.check_histogram(name) } else { Ok(()) }
    }

    /// The buckets of each series grow, and the last one holds all that was counted.
    fn check_histogram(&self, name: &str) -> Result<()> {
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name == format!("{name}_bucket")) {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").context("a bucket without a bound")?;
            series.entry(labels).or_default().push((bound.parse()?, sample.value));
        }
        for (labels, buckets) in series {
            ensure!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "buckets that do not grow: {labels:?}");
            let counted = self.samples.iter().find(|s| s.name == format!("{name}_count") && s.labels == labels);
            let counted = counted.context("no count")?.value;
            ensure!(buckets.last() == Some(&(f64::INFINITY, counted)), "not all are in the last bucket: {labels:?}");
        }
        Ok(())
    }
}

impl Sample {
    fn parse(line: &str) -> Result<Self> {
        let (name, labels, rest) = labelled(line)?;
        ensure!(is_name(name), "{name:?} is no name");
        let rest = rest.strip_prefix(' ').context("no blank before the value")?;
        let (value, exemplar) = match rest.split_once(" # ") {
            None => (rest, None),
            Some((value, exemplar)) => (value, Some(exemplar_labels(exemplar)?)),
        };
        Ok(Self { name: name.to_owned(), labels, value: value.parse()?, exemplar })
    }
}

/// Labels, value and time.
fn exemplar_labels(text: &str) -> Result<Labels> {
    let (name, labels, rest) = labelled(text)?;
    ensure!(name.is_empty() && !labels.is_empty(), "an exemplar is labels, a value and a time");
    let characters: usize = labels.iter().map(|(label, value)| label.chars().count() + value.chars().count()).sum();
    ensure!(characters <= 128, "the labels of an exemplar have {characters} characters");
    for number in rest.split_whitespace() {
        number.parse::<f64>()?;
    }
    Ok(labels)
}

/// A name, its labels in braces, and what follows them.
fn labelled(text: &str) -> Result<(&str, Labels, &str)> {
    let end = text.find(['{', ' ']).context("no value")?;
    let (name, rest) = text.split_at(end);
    let Some(mut rest) = rest.strip_prefix('{') else { return Ok((name, Labels::new(), rest)) };
    let mut labels = Labels::new();
    loop {
        let (label, after) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(is_name(label), "{label:?} is no label");
        let (value, after) = quoted(after)?;
        ensure!(labels.insert(label.to_owned(), value).is_none(), "the label {label} is there twice");
        rest = match (after.strip_prefix(','), after.strip_prefix('}')) {
            (Some(more), _) => more,
            (_, Some(end)) => return Ok((name, labels, end)),
            _ => bail!("neither , nor }} after the label {label}"),
        };
    }
}

/// The text up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match characters.next().context("a backslash at the end")?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                other => bail!("\\{other} is no escape"),
            }),
            other => value.push(other),
        }
    }
    bail!("a label value without its end")
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"# HELP a_seconds How long.
# TYPE a_seconds histogram
# UNIT a_seconds seconds
a_seconds_sum{k="x"} 1.5
a_seconds_count{k="x"} 2
a_seconds_bucket{le="0.5",k="x"} 1 # {trace_id="4bf9"} 0.4 1790000000.5
a_seconds_bucket{le="+Inf",k="x"} 2
# HELP b How often.
# TYPE b counter
b_total{k="quote \" and \\ and \n"} 3
b_total{k="y",l="z"} 4.0
# EOF
"#;

    #[test]
    fn what_is_well_formed_is_read() {
        let scrape = Scrape::parse(GOOD).unwrap();
        assert_eq!((scrape.sum("b_total", &[]), scrape.sum("b_total", &[("k", "y")])), (Some(7.0), Some(4.0)));
        assert_eq!(scrape.sum("b_total", &[("k", "quote \" and \\ and \n")]), Some(3.0));
        assert_eq!(scrape.sum("b_total", &[("k", "other")]), None);
        let bucket = scrape.series("a_seconds_bucket").next().unwrap();
        assert_eq!(bucket.exemplar.as_ref().unwrap()["trace_id"], "4bf9");
        assert_eq!(scrape.families["a_seconds"].unit.as_deref(), Some("seconds"));
    }

    #[test]
    fn what_is_not_is_refused() {
        for (from, to, told) in [
            ("# EOF\n", "", "# EOF"),
            ("b_total{k=\"y\",l=\"z\"}", "b_total{k=\"quote \\\" and \\\\ and \\n\"}", "twice"),
            ("b_total{k=\"y\",l=\"z\"}", "b{k=\"y\"}", "does not belong"),
            ("b_total{k=\"y\",l=\"z\"}", "b_total{k=\"y\" l=\"z\"}", "neither"),
            ("k=\"y\",l=\"z\"", "k=\"y\",k=\"z\"", "twice"),
            ("4.0", "four", "invalid float"),
            ("4.0", "-4", "negative"),
            ("le=\"0.5\",k=\"x\"} 1", "le=\"0.5\",k=\"x\"} 3", "do not grow"),
            ("count{k=\"x\"} 2", "count{k=\"x\"} 3", "last bucket"),
            ("# UNIT a_seconds seconds", "# UNIT a_seconds bytes", "unit"),
            ("# TYPE b counter\n", "", "not expected"),
            ("# HELP b How often.\n", "# HELP a_seconds Again.\n", "after a sample"),
            ("{trace_id=\"4bf9\"}", "{}", "label"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = format!("{:#}", Scrape::parse(&GOOD.replacen(from, to, 1)).unwrap_err());
            assert!(error.contains(told), "{to}: {error}");
        }
    }
}
