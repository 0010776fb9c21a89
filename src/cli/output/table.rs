//! Tables as kubectl prints them: aligned columns, no borders. Where they would not fit the terminal, the widest
//! cells are cut.

/// Between two columns.
const GAP: usize = 3;

/// A column is never cut to less.
const LEAST: usize = 8;

const ELLIPSIS: char = '…';

/// Rows below titles.
#[derive(Clone, Debug)]
pub struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without a row.
    pub fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has a cell for each title.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text; within that many columns, if it can be.
    pub fn text(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let titles = self.titles.iter().map(|title| title.to_uppercase()).collect();
        let line = |cells: &Vec<String>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", cut(cell, *width)));
            let line = padded.collect::<Vec<_>>().join(&" ".repeat(GAP));
            format!("{}\n", line.trim_end())
        };
        std::iter::once(&titles).chain(&self.rows).map(line).collect()
    }

    /// The table as comma-separated values (RFC 4180).
    pub fn csv(&self) -> String {
        let titles = self.titles.iter().map(|title| title.to_lowercase().replace(' ', "_")).collect();
        let line = |cells: &Vec<String>| {
            let cells: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
            format!("{}\r\n", cells.join(","))
        };
        std::iter::once(&titles).chain(&self.rows).map(line).collect()
    }

    /// As wide as the cells; and then the widest less, until all fit.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell)).max();
        let titles = self.titles.iter().enumerate();
        let mut widths: Vec<_> =
            titles.map(|(column, title)| title.len().max(widest(column).unwrap_or_default())).collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while limit.is_some_and(|limit| widths.iter().sum::<usize>() + gaps > limit) {
            match widths.iter_mut().max().filter(|width| **width > LEAST) {
                Some(width) => *width -= 1,
                None => break,
            }
        }
        widths
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain([ELLIPSIS]).collect(),
        false => text.into(),
    }
}

fn quoted(cell: &str) -> String {
    match cell.contains(['"', ',', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "last seen"]);
        table.row(["a", "now"]);
        table.row(["a-name-that-is-long", "a, \"b\""]);
        table
    }

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let text = "NAME                  LAST SEEN\na                     now\na-name-that-is-long   a, \"b\"\n";
        assert_eq!(table().text(None), text);
        assert_eq!(table().text(Some(200)), text);
    }

    #[test]
    fn what_does_not_fit_is_cut_where_it_is_widest() {
        let text = table().text(Some(22));
        assert_eq!(text, "NAME         LAST SEEN\na            now\na-name-th…   a, \"b\"\n");
        assert!(text.lines().all(|line| line.chars().count() <= 22), "{text}");
        assert!(table().text(Some(3)).contains("a-name-…"), "a column stays readable");
    }

    #[test]
    fn a_cell_of_csv_is_quoted_where_it_must_be() {
        assert_eq!(table().csv(), "name,last_seen\r\na,now\r\na-name-that-is-long,\"a, \"\"b\"\"\"\r\n");
    }
}
