//! What waits for the socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A queue of slices that is written with vectored writes: header and payload of a message leave in one call.
#[derive(Debug, Default)]
pub(super) struct Output {
    parts: VecDeque<Bytes>,
    length: usize,
}

impl Output {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.length += bytes.len();
            self.parts.push_back(bytes);
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        debug_assert!(count <= self.length);
        self.length = self.length.saturating_sub(count);
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                part.advance(count);
                break;
            }
            count -= part.len();
            self.parts.pop_front();
        }
        if self.parts.is_empty() && self.parts.capacity() > 64 {
            // What a burst needed is not kept by every connection.
            self.parts = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_in_order_at_any_cut() {
        for cut in 0..=9 {
            let mut output = Output::default();
            for part in [&b"abc"[..], b"", b"de", b"fghi"] {
                output.push(Bytes::copy_from_slice(part));
            }
            assert_eq!(output.len(), 9);
            let mut slices = [IoSlice::new(&[]); 8];
            assert_eq!(output.chunks_vectored(&mut slices), 3);
            output.advance(cut);
            let mut left = Vec::new();
            while output.has_remaining() {
                left.extend_from_slice(output.chunk());
                let length = output.chunk().len();
                output.advance(length);
            }
            assert_eq!(left, &b"abcdefghi"[cut..], "{cut}");
            assert!(output.is_empty());
        }
    }
}
