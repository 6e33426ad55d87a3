//! Bits, most significant first, and Exp-Golomb codes (H.264, section 9.1).

#[derive(Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used of the last byte, 0 if it is full.
    used: u32,
}

impl BitWriter {
    /// The lowest `count` bits of `value`.
    pub(super) fn bits(&mut self, count: u32, value: u32) -> &mut Self {
        for shift in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> shift & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
        self
    }

    /// Zeros, eight times `count`. Bits not yet used are zero already, so whole bytes do at any position.
    pub(super) fn zero_bytes(&mut self, count: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + count, 0);
        self
    }

    /// `ue(v)`.
    pub(super) fn unsigned(&mut self, value: u32) -> &mut Self {
        let code = value + 1;
        let length = code.ilog2();
        self.bits(length, 0).bits(length + 1, code)
    }

    /// `se(v)` of 0, the only one needed.
    pub(super) fn signed_zero(&mut self) -> &mut Self {
        self.bits(1, 1)
    }

    /// The bytes, the last one filled up with zero bits.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A NAL unit: header byte, the bits with their stop bit, emulation prevention (H.264, section 7.3.1).
    pub(super) fn into_nal_unit(mut self, header: u8) -> Vec<u8> {
        self.bits(1, 1);
        let mut out = Vec::with_capacity(self.bytes.len() + 2);
        out.push(header);
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                out.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            out.push(byte);
        }
        out
    }
}
