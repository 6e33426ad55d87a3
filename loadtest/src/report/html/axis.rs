//! Where values stand along an axis, and which of them are written beside it.

/// Smallest value that a logarithmic axis shows; it has no zero.
const LOG_LEAST: f64 = 1e-6;

/// Most steps between ticks of an even axis.
const MAX_STEPS: f64 = 5.0;

/// An axis from its lowest to its highest tick.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    is_logarithmic: bool,
    /// Values that are written, the lowest first.
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// From 0 to a round number that no value is above, or by powers of ten around all positive values. Values that are no
    /// numbers are left out.
    pub(super) fn over(values: impl Iterator<Item = f64>, is_logarithmic: bool) -> Self {
        let values = values.filter(|value| value.is_finite());
        if is_logarithmic {
            Self::logarithmic(values)
        } else {
            Self::even(values)
        }
    }

    /// Where a value stands: 0 at the low end, 1 at the high end, never outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| {
            if self.is_logarithmic {
                value.max(LOG_LEAST).log10()
            } else {
                value
            }
        };
        let (low, high) = (scale(self.low), scale(self.high));
        let share = (scale(value) - low) / (high - low);
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    fn even(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0_f64, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_up(most / MAX_STEPS);
        let steps = (most / step).ceil().clamp(1.0, MAX_STEPS);
        let ticks: Vec<f64> = (0..=steps as u32)
            .map(|number| f64::from(number) * step)
            .collect();
        Self {
            low: 0.0,
            high: steps * step,
            is_logarithmic: false,
            ticks,
        }
    }

    fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let (least, most) = positive.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let (least, most) = if most > 0.0 {
            (least.max(LOG_LEAST), most.max(LOG_LEAST))
        } else {
            (1.0, 10.0)
        };
        let low = least.log10().floor() as i32;
        let high = (most.log10().ceil() as i32).max(low.saturating_add(1));
        Self {
            low: 10_f64.powi(low),
            high: 10_f64.powi(high),
            is_logarithmic: true,
            ticks: (low..=high).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

/// The least of 1, 2, 5, 10 times a power of ten that is not below this positive number.
fn round_up(number: f64) -> f64 {
    let power = 10_f64.powi(number.log10().floor() as i32);
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= number * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A number with no more digits than its size asks for.
pub(super) fn short(number: f64) -> String {
    if !number.is_finite() {
        return "-".to_owned();
    }
    let text = match number.abs() {
        1e6.. => return format!("{}M", short(number / 1e6)),
        1e4.. => return format!("{}k", short(number / 1e3)),
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        1.0.. => format!("{number:.2}"),
        0.01.. => format!("{number:.3}"),
        0.0 => return "0".to_owned(),
        _ => return format!("{number:.1e}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_axis_ends_at_a_round_number() {
        for (most, high, ticks) in [
            (93.0, 100.0, 6),
            (100.0, 100.0, 6),
            (0.37, 0.4, 5),
            (1_024.0, 1_500.0, 4),
            (0.0, 1.0, 6),
            (7.0, 8.0, 5),
        ] {
            let axis = Axis::over([most, f64::NAN].into_iter(), false);
            assert!((axis.high - high).abs() < 1e-9, "{most}: {axis:?}");
            assert_eq!(axis.ticks.len(), ticks, "{most}: {axis:?}");
            let back = axis.place(most) * axis.high;
            assert!((back - most).abs() < 1e-6, "{most}: {axis:?}");
        }
    }

    #[test]
    fn a_logarithmic_axis_spans_powers_of_ten() {
        let axis = Axis::over([0.8, 350.0, 0.0, -1.0].into_iter(), true);
        assert_eq!(axis.ticks.len(), 5, "{axis:?}");
        assert!((axis.place(10.0) - 0.5).abs() < 1e-9, "{axis:?}");
        assert_eq!(axis.place(0.0), 0.0);
        assert_eq!(axis.place(1e12), 1.0);
        let one = Axis::over([1.0].into_iter(), true);
        assert_eq!(one.ticks.len(), 2, "{one:?}");
        assert_eq!(Axis::over(std::iter::empty(), true).ticks.len(), 2);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (0.123_4, "0.123"),
            (2.0, "2"),
            (12.34, "12.3"),
            (100.0, "100"),
            (2_000.0, "2000"),
            (15_000.0, "15k"),
            (2_500_000.0, "2.5M"),
            (0.000_01, "1.0e-5"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
