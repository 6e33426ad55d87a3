//! A list with a bound that still spans everything.

/// Things in order, evenly thinned out where they are too many.
#[derive(Debug)]
pub(crate) struct Thinned<T> {
    entries: Vec<T>,
    max: usize,
    /// One in so many is kept.
    stride: usize,
    pushed: usize,
}

impl<T> Thinned<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            entries: Vec::new(),
            max: max.max(2),
            stride: 1,
            pushed: 0,
        }
    }

    pub(crate) fn push(&mut self, entry: T) {
        let number = self.pushed;
        self.pushed += 1;
        if number.is_multiple_of(self.stride) && self.entries.len() >= self.max {
            let mut index = 0_usize;
            self.entries.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride = self.stride.saturating_mul(2);
        }
        if number.is_multiple_of(self.stride) {
            self.entries.push(entry);
        }
    }

    pub(crate) fn entries(&self) -> &[T] {
        &self.entries
    }

    pub(crate) fn into_entries(self) -> Vec<T> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_thinned_evenly() {
        for count in 0..200_usize {
            let mut thinned = Thinned::new(8);
            for number in 0..count {
                thinned.push(number);
            }
            let entries = thinned.into_entries();
            assert!(entries.len() <= 8 && (count == 0 || entries.len() >= count.min(4)));
            let stride = entries.get(1).copied().unwrap_or(1);
            assert!(stride.is_power_of_two());
            let expected: Vec<usize> = (0..count).step_by(stride).collect();
            assert_eq!(entries, expected, "of {count}");
        }
    }
}
