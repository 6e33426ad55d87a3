//! Charts of horizontal bars in groups.

use std::fmt;

use super::axis::{Axis, short};
use super::{COLOURS, Escaped};

/// The drawing in its own units; the page scales it.
const WIDTH: f64 = 420.0;
const NAMES: f64 = 130.0;
const VALUES: f64 = 52.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const HEADING: f64 = 24.0;

/// Characters of a name that have room before its bar.
const MAX_NAME: usize = 19;

/// Bars, grouped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// Unit of the values.
    pub unit: String,
    /// Whether the length of a bar is the logarithm of its value: for those that differ by powers of ten.
    pub is_logarithmic: bool,
    /// The groups.
    pub groups: Vec<BarGroup>,
}

/// Bars under one heading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarGroup {
    /// The heading.
    pub label: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// Whose value it is.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Its value; `None` if it was not measured.
    pub value: Option<f64>,
    /// The least and the most of several measurements.
    pub range: Option<(f64, f64)>,
}

impl BarChart {
    /// A chart without bars.
    #[must_use]
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            unit: unit.into(),
            ..Self::default()
        }
    }

    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let tops = bars().map(|bar| bar.range.map_or(0.0, |range| range.1));
        let values = bars().filter_map(|bar| bar.value).chain(tops);
        let axis = Axis::over(values, self.is_logarithmic);
        let x = |value: f64| NAMES + axis.place(value) * (WIDTH - NAMES - VALUES);
        let height: f64 = 10.0
            + self
                .groups
                .iter()
                .map(|group| HEADING + STEP * group.bars.len() as f64)
                .sum::<f64>();
        let title = Escaped(&self.title);
        writeln!(
            f,
            "<figure><figcaption>{title}, {}</figcaption>",
            Escaped(&self.unit)
        )?;
        writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")?;
        writeln!(f, "<title>{title}</title>")?;
        let mut y = 0.0;
        for group in &self.groups {
            y += HEADING;
            writeln!(
                f,
                "<text x=\"0\" y=\"{:.1}\">{}</text>",
                y - 6.0,
                Escaped(&group.label)
            )?;
            for bar in &group.bars {
                bar.write(f, y, x)?;
                y += STEP;
            }
        }
        writeln!(f, "</svg></figure>")
    }
}

impl Bar {
    fn write(&self, f: &mut fmt::Formatter<'_>, y: f64, x: impl Fn(f64) -> f64) -> fmt::Result {
        let baseline = y + 12.5;
        let name = if self.name.chars().count() > MAX_NAME {
            let kept: String = self.name.chars().take(MAX_NAME - 1).collect();
            format!("{kept}…")
        } else {
            self.name.clone()
        };
        writeln!(
            f,
            "<text class=\"name\" x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}<title>{}</title></text>",
            NAMES - 6.0,
            Escaped(&name),
            Escaped(&self.name),
        )?;
        let value = self.value.filter(|value| value.is_finite());
        let Some(value) = value else {
            return writeln!(f, "<text x=\"{NAMES}\" y=\"{baseline:.1}\">-</text>");
        };
        let (colour, end) = (self.colour % COLOURS, x(value));
        // What is there is seen, however little it is.
        let length = (end - NAMES).max(1.0);
        writeln!(
            f,
            "<rect class=\"b{colour}\" x=\"{NAMES}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        )?;
        let mut text_at = end;
        if let Some((least, most)) = self.range {
            let (from, to, middle) = (x(least), x(most), y + BAR / 2.0);
            writeln!(
                f,
                "<path class=\"range\" d=\"M{from:.1} {middle:.1}H{to:.1}\"/>"
            )?;
            text_at = end.max(to);
        }
        writeln!(
            f,
            "<text class=\"value\" x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
            text_at + 5.0,
            short(value),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::Page;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |name: &str, value| Bar {
            name: name.to_owned(),
            value,
            ..Bar::default()
        };
        let mut page = Page::new("t");
        page.bar_chart(BarChart {
            groups: vec![BarGroup {
                label: "200 viewers".to_owned(),
                bars: vec![
                    bar("full", Some(100.0)),
                    bar("half", Some(50.0)),
                    bar("none", None),
                    bar("a name that is far too long for its place", Some(f64::NAN)),
                ],
            }],
            ..BarChart::new("CPU", "%")
        });
        let page = page.to_string();
        assert!(page.contains("width=\"238.0\""), "{page}");
        assert!(page.contains("width=\"119.0\""), "{page}");
        assert_eq!(page.matches("<rect").count(), 2, "{page}");
        assert!(page.contains(">a name that is far…<"), "{page}");
    }
}
