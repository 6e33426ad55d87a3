//! What a message may cost, and the account of what it has cost so far.

use crate::error::{DecodeError, LimitKind};

/// The deepest nesting that is decoded or encoded, whatever the [`Limits`] say: the codec recurses once per level.
pub const MAX_DEPTH: usize = 256;

/// What one value counts towards [`Limits::bytes`] besides its text: about its size in memory.
pub(crate) const VALUE_BYTES: usize = 48;

/// What the name of a property counts besides its text.
pub(crate) const NAME_BYTES: usize = 32;

/// Bounds on one message, all measured on the tree that comes out: what a reference copies counts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Objects, arrays, dictionaries and vectors within each other. Above [`MAX_DEPTH`] means [`MAX_DEPTH`].
    pub depth: usize,
    /// Values, containers included. The elements of numeric vectors and byte arrays count as bytes instead.
    pub values: usize,
    /// Decoded size: text and binary data, plus 48 bytes for each value and 32 for each property name.
    pub bytes: usize,
}

impl Limits {
    /// 64 levels, 131,072 values, 16 MiB: room for the seek tables in the metadata of a day-long recording.
    pub const DEFAULT: Self = Self {
        depth: 64,
        values: 1 << 17,
        bytes: 16 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is left of the limits.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    depth: usize,
    values: usize,
    bytes: usize,
    /// Compounds so far, in the order in which an encoder will number them.
    compounds: usize,
    /// Highest number that a reference of the outer format can carry.
    highest_reference: usize,
}

impl Budget {
    pub(crate) fn new(limits: Limits, highest_reference: usize) -> Self {
        let limits = Limits {
            depth: limits.depth.min(MAX_DEPTH),
            ..limits
        };
        Self {
            limits,
            depth: 0,
            values: limits.values,
            bytes: limits.bytes,
            compounds: 0,
            highest_reference,
        }
    }

    /// Charges one value.
    pub(crate) fn value(&mut self, offset: usize) -> Result<(), DecodeError> {
        match self.values.checked_sub(1) {
            Some(left) => self.values = left,
            None => return Err(exceeded(offset, LimitKind::Values, self.limits.values)),
        }
        self.bytes(offset, VALUE_BYTES)
    }

    /// Charges the name of a property.
    pub(crate) fn name(&mut self, offset: usize, length: usize) -> Result<(), DecodeError> {
        self.bytes(offset, length.saturating_add(NAME_BYTES))
    }

    /// Charges text or binary data.
    pub(crate) fn bytes(&mut self, offset: usize, length: usize) -> Result<(), DecodeError> {
        match self.bytes.checked_sub(length) {
            Some(left) => self.bytes = left,
            None => return Err(exceeded(offset, LimitKind::Bytes, self.limits.bytes)),
        }
        Ok(())
    }

    /// Goes one level down; gives the compound's number in the tree.
    pub(crate) fn enter(&mut self, offset: usize) -> Result<usize, DecodeError> {
        if self.depth >= self.limits.depth {
            return Err(exceeded(offset, LimitKind::Depth, self.limits.depth));
        }
        self.depth += 1;
        let number = self.compounds;
        self.compounds += 1;
        Ok(number)
    }

    /// Comes back up.
    pub(crate) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Checks that an encoder can point back at this compound.
    pub(crate) fn cycle(&self, offset: usize, number: usize) -> Result<(), DecodeError> {
        if number > self.highest_reference {
            return Err(exceeded(
                offset,
                LimitKind::References,
                self.highest_reference + 1,
            ));
        }
        Ok(())
    }
}

fn exceeded(offset: usize, limit: LimitKind, maximum: usize) -> DecodeError {
    DecodeError::LimitExceeded {
        offset,
        limit,
        maximum,
    }
}
