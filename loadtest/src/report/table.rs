//! Tables for terminals: a title, lines of a label and one or more values, and notes. Several columns of values are right-aligned.

use std::fmt;

/// A table of figures.
#[derive(Clone, Debug, Default)]
pub struct Table {
    title: String,
    corner: String,
    columns: Vec<String>,
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Clone, Debug)]
struct Row {
    label: String,
    cells: Vec<String>,
}

impl Table {
    /// A table without lines.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// Names the columns of values.
    #[must_use]
    pub fn columns(mut self, names: &[&str]) -> Self {
        self.columns = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Names the column of labels, if the columns of values have names.
    #[must_use]
    pub fn corner(mut self, name: &str) -> Self {
        name.clone_into(&mut self.corner);
        self
    }

    /// Adds a line with one value.
    pub fn line(&mut self, label: impl Into<String>, value: impl Into<String>) {
        self.row(label, vec![value.into()]);
    }

    /// Adds a line of text below all others.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a line with a value for each column.
    pub fn row(&mut self, label: impl Into<String>, cells: Vec<String>) {
        self.rows.push(Row {
            label: label.into(),
            cells,
        });
    }

    /// As Markdown: a table with aligned columns below its title, and notes below it.
    #[must_use]
    pub fn markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|");
        let count = self.rows.iter().map(|row| row.cells.len()).max();
        let count = count.unwrap_or(0).max(self.columns.len());
        let line = |label: &str, cells: &[String]| {
            let cells = (0..count).map(|place| cells.get(place).map_or("", String::as_str));
            let mut line = format!("| {} |", escape(label));
            for cell in cells {
                line.push_str(&format!(" {} |", escape(cell)));
            }
            line.push('\n');
            line
        };
        let mut text = format!("{}\n\n", self.title);
        text.push_str(&line(&self.corner, &self.columns));
        text.push_str(&format!("|---|{}\n", "--:|".repeat(count)));
        for row in &self.rows {
            text.push_str(&line(&row.label, &row.cells));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    pub(super) fn corner_name(&self) -> &str {
        &self.corner
    }

    pub(super) fn column_names(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.rows.iter().map(|row| (&*row.label, &*row.cells))
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |text: &str| text.chars().count();
        let labels = self.rows.iter().map(|row| length(&row.label));
        let label_width = labels.chain([length(&self.corner)]).max().unwrap_or(0);
        let count = self.rows.iter().map(|row| row.cells.len()).max();
        let widths: Vec<usize> = (0..count.unwrap_or(0).max(self.columns.len()))
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
                let all = cells.chain(self.columns.get(column));
                all.map(|cell| length(cell)).max().unwrap_or(0)
            })
            .collect();
        let write = |f: &mut fmt::Formatter<'_>, label: &str, cells: &[String]| {
            write!(f, "  {label:<label_width$}")?;
            if let ([_], [cell]) = (&widths[..], cells) {
                return writeln!(f, "  {cell}");
            }
            for (cell, width) in cells.iter().zip(&widths) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)
        };
        writeln!(f, "{}", self.title)?;
        if !self.columns.is_empty() {
            write(f, &self.corner, &self.columns)?;
        }
        for row in &self.rows {
            write(f, &row.label, &row.cells)?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

/// A number with its thousands apart: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that reads best: `87 us`, `1.25 ms`, `3.20 s`.
#[must_use]
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Milliseconds in the unit that reads best: `12.5 ms`, `3.20 s`.
#[must_use]
pub fn millis(ms: f64) -> String {
    if ms < 1_000.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.2} s", ms / 1e3)
    }
}

/// Bytes in the unit that reads best, with powers of 1,000: `999 B`, `1.50 MB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    for unit in ["kB", "MB", "GB"] {
        amount /= 1e3;
        // What would be written as 1000.00 belongs to the next unit.
        if amount < 999.995 {
            return format!("{amount:.2} {unit}");
        }
    }
    format!("{:.2} TB", amount / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
        for (us, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_250, "1.25 ms"),
            (3_200_000, "3.20 s"),
        ] {
            assert_eq!(micros(us), text);
        }
        assert_eq!(
            (millis(12.51), millis(3_200.0)),
            ("12.5 ms".into(), "3.20 s".into())
        );
        for (amount, text) in [
            (999, "999 B"),
            (1_500_000, "1.50 MB"),
            (999_996, "1.00 MB"),
            (2_000_000_000_000, "2.00 TB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new("latency").columns(&["server", "floor"]);
        table.row("p50", vec!["1.25 ms".into(), "87 us".into()]);
        table.row("frames", vec!["600".into(), "600".into()]);
        assert_eq!(
            table.to_string(),
            "latency\n           server  floor\n  p50     1.25 ms  87 us\n  frames      600    600\n"
        );
        let mut table = Table::new("play");
        table.line("viewers", "3");
        table.line("received", "1 MB");
        table.note("2 x gone");
        assert_eq!(
            table.to_string(),
            "play\n  viewers   3\n  received  1 MB\n  2 x gone\n"
        );
    }

    #[test]
    fn markdown_has_a_cell_for_each_column() {
        let mut table = Table::new("cost").corner("server").columns(&["CPU", "p99"]);
        table.row("a|b", vec!["1 %".into(), "2 ms".into()]);
        table.row("c", vec!["3 %".into()]);
        table.note("medians");
        assert_eq!(
            table.markdown(),
            "cost\n\n| server | CPU | p99 |\n|---|--:|--:|\n| a\\|b | 1 % | 2 ms |\n| c | 3 % |  |\n\nmedians\n"
        );
    }
}
