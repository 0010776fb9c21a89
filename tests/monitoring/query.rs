//! What a PromQL query names, found without understanding the query: promtool checks that there is something to
//! understand.

/// Words that name no metric, though nothing in parentheses follows them.
const OPERATORS: [&str; 8] = ["and", "or", "unless", "offset", "bool", "atan2", "inf", "nan"];

/// Words that are followed by label names in parentheses.
const CLAUSES: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What a query names.
#[derive(Debug, Default, PartialEq)]
pub struct Query {
    /// The series it asks for.
    pub selectors: Vec<Selector>,
    /// The label names of each clause, and what of the query the clause is about: `by` of its argument, others of all.
    pub clauses: Vec<(Vec<String>, String)>,
}

/// One selector of series.
#[derive(Debug, PartialEq)]
pub struct Selector {
    /// The name of the series.
    pub metric: String,
    /// Label names and what they are compared with.
    pub matchers: Vec<(String, String)>,
    /// The function that is applied to it directly.
    pub function: Option<String>,
}

/// Scans a query.
pub fn scan(text: &str) -> Query {
    let (mut query, mut functions, mut rest) = (Query::default(), Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "_:$".contains(*c)).collect();
        if word.is_empty() {
            match first {
                '[' => rest = &rest[rest.find(']').unwrap()..],
                '(' => functions.push(None),
                ')' => drop(functions.pop()),
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        rest = rest[word.len()..].trim_start();
        if CLAUSES.contains(&word.as_str()) && rest.starts_with('(') {
            let (labels, after) = enclosed(rest);
            let about = if word == "by" { enclosed(after.trim_start()).0 } else { text };
            let names = labels.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty());
            query.clauses.push((names.collect(), about.to_owned()));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('(') {
            functions.push(Some(word));
            rest = after;
        } else if !first.is_ascii_digit() && !OPERATORS.contains(&word.as_str()) && !is_aggregation(rest) {
            let (braces, after) = if rest.starts_with('{') { enclosed(rest) } else { ("", rest) };
            let function = functions.last().cloned().flatten();
            query.selectors.push(Selector { metric: word, matchers: matchers(braces), function });
            rest = after;
        }
    }
    query
}

/// Whether `by (...)` comes before the argument, as in `sum by (job) (...)`.
fn is_aggregation(rest: &str) -> bool {
    ["by", "without"].iter().any(|word| rest.strip_prefix(word).is_some_and(|rest| rest.trim_start().starts_with('(')))
}

/// What stands within the parentheses or braces that `text` begins with, and what comes after. Strings may hold any.
fn enclosed(text: &str) -> (&str, &str) {
    let (mut depth, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | '{' if !quoted => depth += 1,
            ')' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("nothing closes: {text}");
}

fn matchers(braces: &str) -> Vec<(String, String)> {
    let pairs = braces.split("\",").map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (label, value) = pair.split_once(['=', '!']).unwrap();
        (label.trim().to_owned(), value.trim_start_matches(['=', '~']).trim_matches('"').to_owned())
    };
    pairs.map(pair).collect()
}

#[test]
fn the_scan_finds_what_a_query_names() {
    let query = scan(
        "topk(10, sum by (job, namespace) (rate(a_total{x!~\"1|(2)\",y=\"3\"}[$__rate_interval] offset 1h))) - time()\n\
         < 14 * 86400 and on (job) b_ratio == 1",
    );
    let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let expected = [
        Selector {
            metric: "a_total".into(),
            matchers: texts(&[("x", "1|(2)"), ("y", "3")]),
            function: Some("rate".into()),
        },
        Selector { metric: "b_ratio".into(), matchers: vec![], function: None },
    ];
    assert_eq!(query.selectors, expected);
    let clauses: Vec<_> =
        query.clauses.iter().map(|(labels, about)| (labels.join(" "), about.starts_with("rate"))).collect();
    assert_eq!(clauses, [("job namespace".to_owned(), true), ("job".to_owned(), false)]);
}
