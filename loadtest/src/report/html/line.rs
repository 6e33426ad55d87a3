//! Charts of lines over time.

use std::fmt;

use super::axis::{Axis, short};
use super::{COLOURS, Escaped, write_legend};

/// Points of one line that are drawn; of more, every second, third and so on is.
pub const MAX_POINTS: usize = 2_000;

/// The drawing in its own units; the page scales it.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 24.0;

/// Lines over seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// Unit of the values.
    pub unit: String,
    /// Whether values stand by their logarithm: for those that differ by powers of ten.
    pub is_logarithmic: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: String,
    /// Number of its colour; lines that belong together share one.
    pub colour: usize,
    /// Whether it is dashed.
    pub is_dashed: bool,
    /// Seconds and values, in order of time. Those that are no numbers are left out.
    pub points: Vec<(f64, f64)>,
}

impl LineChart {
    /// A chart without lines.
    #[must_use]
    pub fn new(title: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            unit: unit.into(),
            ..Self::default()
        }
    }

    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x_axis = Axis::over(points().map(|point| point.0), false);
        let y_axis = Axis::over(points().map(|point| point.1), self.is_logarithmic);
        let x = |seconds: f64| LEFT + x_axis.place(seconds) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - y_axis.place(value) * (HEIGHT - TOP - BOTTOM);
        let title = Escaped(&self.title);
        writeln!(f, "<figure><figcaption>{title}</figcaption>")?;
        writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">")?;
        writeln!(f, "<title>{title}</title>")?;
        writeln!(f, "<text x=\"0\" y=\"12\">{}</text>", Escaped(&self.unit))?;
        for &tick in &y_axis.ticks {
            let (at, end, label) = (y(tick), WIDTH - RIGHT, short(tick));
            writeln!(
                f,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{end}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 4.0,
            )?;
        }
        for &tick in &x_axis.ticks {
            let (at, label) = (x(tick), short(tick));
            writeln!(
                f,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - 6.0,
            )?;
        }
        writeln!(
            f,
            "<text x=\"{WIDTH}\" y=\"12\" text-anchor=\"end\">over seconds</text>"
        )?;
        for series in &self.series {
            let dashed = if series.is_dashed { " dashed" } else { "" };
            let mut draw = 'M';
            write!(
                f,
                "<path class=\"s{}{dashed}\" d=\"",
                series.colour % COLOURS
            )?;
            let every = series.points.len().div_ceil(MAX_POINTS).max(1);
            for &(seconds, value) in series.points.iter().step_by(every) {
                if seconds.is_finite() && value.is_finite() {
                    write!(f, "{draw}{:.1} {:.1}", x(seconds), y(value))?;
                    draw = 'L';
                }
            }
            writeln!(f, "\"><title>{}</title></path>", Escaped(&series.name))?;
        }
        writeln!(f, "</svg>")?;
        let names = self.series.iter();
        write_legend(f, names.map(|series| (series.colour, &*series.name)))?;
        writeln!(f, "</figure>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::Page;

    fn draw(points: Vec<(f64, f64)>) -> String {
        let mut page = Page::new("t");
        page.line_chart(LineChart {
            series: vec![Series {
                name: "a".to_owned(),
                colour: 9,
                is_dashed: true,
                points,
            }],
            ..LineChart::new("chart", "ms")
        });
        page.to_string()
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let page = draw(vec![
            (0.0, 0.0),
            (f64::NAN, 5.0),
            (5.0, f64::NAN),
            (10.0, 100.0),
        ]);
        assert!(
            page.contains("<path class=\"s1 dashed\" d=\"M44.0 196.0L410.0 28.0\">"),
            "{page}"
        );
        assert!(!page.contains("NaN"), "{page}");
    }

    #[test]
    fn long_lines_are_thinned() {
        let page = draw((0..50_000).map(|n| (f64::from(n), 1.0)).collect());
        let drawn = page.matches('L').count();
        assert!((1_500..=MAX_POINTS + 10).contains(&drawn), "{drawn}");
    }
}
