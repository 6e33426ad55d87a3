//! Self-contained pages: text, tables and charts in one HTML file without scripts or anything that is loaded from elsewhere.
//!
//! Charts are inline SVG, drawn wide enough to be read on a phone; colours follow the reader's light or dark setting. Every text is
//! escaped where it is written (`Escaped`), so names and error messages may hold anything. A page holds what it is given: bounding
//! the number of charts is the caller's affair, the number of points of a line is bounded here ([`MAX_POINTS`]).

mod axis;
mod bars;
mod line;

use std::fmt;
use std::io;
use std::path::Path;

pub use bars::{Bar, BarChart, BarGroup};
pub use line::{LineChart, MAX_POINTS, Series};

use super::Table;

/// Colours that series are told apart by. Later ones begin again.
const COLOURS: usize = 8;

const STYLE: &str = include_str!("html/style.css");

/// A page. What is added comes in that order.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Heading(String),
    Text(String),
    Verbatim(String, String),
    Facts(Vec<(String, String)>),
    Table(Table),
    Charts(Vec<Chart>),
}

#[derive(Clone, Debug)]
enum Chart {
    Line(LineChart),
    Bars(BarChart),
}

impl Page {
    /// A page with nothing but a title.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            parts: Vec::new(),
        }
    }

    /// Begins a section.
    pub fn heading(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Heading(text.into()));
    }

    /// Adds text; an empty line begins a new paragraph.
    pub fn text(&mut self, text: impl Into<String>) {
        self.parts.push(Part::Text(text.into()));
    }

    /// Adds text as it is, folded away under a title.
    pub fn verbatim(&mut self, title: impl Into<String>, text: impl Into<String>) {
        self.parts.push(Part::Verbatim(title.into(), text.into()));
    }

    /// Adds pairs of a name and a value.
    pub fn facts(&mut self, facts: Vec<(String, String)>) {
        self.parts.push(Part::Facts(facts));
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) {
        self.parts.push(Part::Table(table));
    }

    /// Adds a chart of lines, beside the chart before it if there is room.
    pub fn line_chart(&mut self, chart: LineChart) {
        self.chart(Chart::Line(chart));
    }

    /// Adds a chart of bars, beside the chart before it if there is room.
    pub fn bar_chart(&mut self, chart: BarChart) {
        self.chart(Chart::Bars(chart));
    }

    /// Writes the page to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.to_string())
    }

    fn chart(&mut self, chart: Chart) {
        if let Some(Part::Charts(charts)) = self.parts.last_mut() {
            charts.push(chart);
        } else {
            self.parts.push(Part::Charts(vec![chart]));
        }
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = Escaped(&self.title);
        writeln!(f, "<!doctype html>\n<html lang=\"en\">\n<head>")?;
        writeln!(f, "<meta charset=\"utf-8\">")?;
        writeln!(
            f,
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
        )?;
        writeln!(f, "<title>{title}</title>\n<style>\n{STYLE}</style>")?;
        writeln!(f, "</head>\n<body>\n<h1>{title}</h1>")?;
        for part in &self.parts {
            part.write(f)?;
        }
        writeln!(f, "</body>\n</html>")
    }
}

impl Part {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heading(text) => writeln!(f, "<h2>{}</h2>", Escaped(text)),
            Self::Text(text) => {
                for paragraph in text.split("\n\n").map(str::trim) {
                    if !paragraph.is_empty() {
                        writeln!(f, "<p>{}</p>", Escaped(paragraph))?;
                    }
                }
                Ok(())
            }
            Self::Verbatim(title, text) => {
                let (title, text) = (Escaped(title), Escaped(text));
                writeln!(
                    f,
                    "<details><summary>{title}</summary><pre>{text}</pre></details>"
                )
            }
            Self::Facts(facts) => {
                writeln!(f, "<dl>")?;
                for (name, value) in facts {
                    writeln!(f, "<dt>{}</dt><dd>{}</dd>", Escaped(name), Escaped(value))?;
                }
                writeln!(f, "</dl>")
            }
            Self::Table(table) => write_table(f, table),
            Self::Charts(charts) => {
                writeln!(f, "<div class=\"charts\">")?;
                for chart in charts {
                    match chart {
                        Chart::Line(chart) => chart.write(f)?,
                        Chart::Bars(chart) => chart.write(f)?,
                    }
                }
                writeln!(f, "</div>")
            }
        }
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &Table) -> fmt::Result {
    writeln!(f, "<div class=\"wide\"><table>")?;
    writeln!(f, "<caption>{}</caption>", Escaped(table.title()))?;
    if !table.column_names().is_empty() {
        write!(f, "<thead><tr><th>{}</th>", Escaped(table.corner_name()))?;
        for name in table.column_names() {
            write!(f, "<th>{}</th>", Escaped(name))?;
        }
        writeln!(f, "</tr></thead>")?;
    }
    writeln!(f, "<tbody>")?;
    for (label, cells) in table.rows() {
        write!(f, "<tr><th>{}</th>", Escaped(label))?;
        for cell in cells {
            write!(f, "<td>{}</td>", Escaped(cell))?;
        }
        writeln!(f, "</tr>")?;
    }
    writeln!(f, "</tbody></table></div>")?;
    for note in table.notes() {
        writeln!(f, "<p class=\"note\">{}</p>", Escaped(note))?;
    }
    Ok(())
}

/// A text as it may stand in HTML, between tags and in quoted attributes alike.
#[derive(Clone, Copy, Debug)]
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(place) = rest.find(['&', '<', '>', '"', '\'']) {
            let (before, from) = rest.split_at(place);
            f.write_str(before)?;
            let mut characters = from.chars();
            f.write_str(match characters.next() {
                Some('&') => "&amp;",
                Some('<') => "&lt;",
                Some('>') => "&gt;",
                Some('"') => "&quot;",
                _ => "&#39;",
            })?;
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

/// The names of series with their colours.
fn write_legend<'a>(
    f: &mut fmt::Formatter<'_>,
    names: impl Iterator<Item = (usize, &'a str)>,
) -> fmt::Result {
    write!(f, "<p class=\"legend\">")?;
    for (colour, name) in names {
        let (colour, name) = (colour % COLOURS, Escaped(name));
        write!(f, "<span><i class=\"b{colour}\"></i>{name}</span> ")?;
    }
    writeln!(f, "</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</script><img src=x onerror='a(\"b\")'>&amp;";

    fn hostile_page() -> String {
        let mut page = Page::new(HOSTILE);
        page.heading(HOSTILE);
        page.text(HOSTILE);
        page.verbatim(HOSTILE, HOSTILE);
        page.facts(vec![(HOSTILE.to_owned(), HOSTILE.to_owned())]);
        let mut table = Table::new(HOSTILE).corner(HOSTILE).columns(&[HOSTILE]);
        table.row(HOSTILE, vec![HOSTILE.to_owned()]);
        table.note(HOSTILE);
        page.table(table);
        page.line_chart(LineChart {
            title: HOSTILE.to_owned(),
            unit: HOSTILE.to_owned(),
            is_logarithmic: true,
            series: vec![Series {
                name: HOSTILE.to_owned(),
                colour: 0,
                is_dashed: false,
                points: vec![(0.0, 1.0), (1.0, 20.0)],
            }],
        });
        page.bar_chart(BarChart {
            title: HOSTILE.to_owned(),
            unit: HOSTILE.to_owned(),
            is_logarithmic: false,
            groups: vec![BarGroup {
                label: HOSTILE.to_owned(),
                bars: vec![Bar {
                    name: HOSTILE.to_owned(),
                    colour: 0,
                    value: Some(2.0),
                    range: Some((1.0, 3.0)),
                }],
            }],
        });
        page.to_string()
    }

    #[test]
    fn every_text_is_escaped() {
        let page = hostile_page();
        assert!(!page.contains("<img"), "{page}");
        assert!(!page.contains("</script"), "{page}");
        let escaped = Escaped(HOSTILE).to_string();
        // Title twice, and each place above at least once.
        assert!(page.matches(&escaped).count() >= 15, "{page}");
        assert_eq!(
            escaped,
            "&lt;/script&gt;&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;amp;"
        );
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let mut page = Page::new("t");
        page.line_chart(LineChart::new("l", "ms"));
        page.bar_chart(BarChart::new("b", "s"));
        let page = page.to_string();
        for forbidden in ["http", "url(", "@import", "<script", "<link", "src="] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("prefers-color-scheme"), "{page}");
        assert!(page.contains("width=device-width"), "{page}");
    }

    #[test]
    fn tags_are_balanced() {
        let page = hostile_page();
        for tag in [
            "html", "head", "body", "style", "div", "table", "thead", "tbody", "tr", "dl", "svg",
            "figure", "p", "pre", "details", "text", "title", "span",
        ] {
            let open = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
            assert!(open > 0, "{tag}");
        }
    }

    #[test]
    fn an_empty_line_begins_a_paragraph() {
        let mut page = Page::new("t");
        page.text("one\ntwo\n\nthree\n");
        let page = page.to_string();
        assert!(page.contains("<p>one\ntwo</p>\n<p>three</p>"), "{page}");
    }
}
