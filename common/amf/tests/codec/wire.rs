//! Random messages that make the most of references: every one is well formed, few are sensible.

/// A small generator of random numbers, so that a failure can be repeated from its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

pub(crate) struct Writer {
    pub(crate) random: Random,
    pub(crate) output: Vec<u8>,
    /// Values that may still be written.
    left: usize,
    compounds: usize,
    objects: Vec<u8>,
    strings: usize,
    /// Kind and number of sealed members.
    traits: Vec<(u8, usize)>,
}

const NAMES: [&str; 9] = ["a", "b", "0", "1", "2", "name", "01", "\u{f1}", "+1"];

impl Writer {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            output: Vec::new(),
            left: 40,
            compounds: 0,
            objects: Vec::new(),
            strings: 0,
            traits: Vec::new(),
        }
    }

    pub(crate) fn amf0(&mut self, depth: usize) {
        self.left = self.left.saturating_sub(1);
        let kinds = if depth == 0 || self.left == 0 { 10 } else { 18 };
        match self.random.below(kinds) {
            0 => self.number(),
            1 => self.output.extend([0x01, 0x02]),
            2 => self.output.extend([0x02, 0, 1, 0xf1]),
            3 => self.output.extend([0x05 + self.random.below(2) as u8]),
            4 => self.output.push(0x0d),
            5 => self.output.extend([0x0c, 0, 0, 0, 1, b'l']),
            6 => self.output.extend([0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
            7 => self.output.extend([0x0f, 0, 0, 0, 1, b'x']),
            8 | 9 | 16 if self.compounds > 0 => {
                let index = self.random.below(self.compounds) as u16;
                self.output.push(0x07);
                self.output.extend(index.to_be_bytes());
            }
            10 | 11 => {
                self.compounds += 1;
                match self.random.below(3) {
                    0 => self.output.push(0x03),
                    1 => self.output.extend([0x10, 0, 1, b'T']),
                    _ => self.output.extend([0x08, 0, 0, 0, 9]),
                }
                for _ in 0..self.random.below(4) {
                    let name = if self.random.chance(8) {
                        ""
                    } else {
                        NAMES[self.random.below(NAMES.len())]
                    };
                    self.output.extend((name.len() as u16).to_be_bytes());
                    self.output.extend(name.as_bytes());
                    self.amf0(depth - 1);
                }
                self.output.extend([0, 0, 9]);
            }
            12 | 13 => {
                self.compounds += 1;
                let count = self.random.below(4) as u8;
                self.output.extend([0x0a, 0, 0, 0, count]);
                for _ in 0..count {
                    self.amf0(depth - 1);
                }
            }
            _ => {
                self.output.push(0x11);
                self.amf3(depth);
            }
        }
    }

    pub(crate) fn amf3(&mut self, depth: usize) {
        self.left = self.left.saturating_sub(1);
        let kinds = if depth == 0 || self.left == 0 { 11 } else { 21 };
        match self.random.below(kinds) {
            kind @ 0..=3 => self.output.push(kind as u8),
            4 => self.output.extend([0x04, 0xff, 0xff, 0xff, 0xfe]),
            5 => {
                self.output.push(0x05);
                self.output.extend([0x7f, 0xf8, 0, 0, 0, 0, 0, 1]);
            }
            6 => {
                self.output.push(0x06);
                let name = NAMES[self.random.below(NAMES.len())];
                self.text(name);
            }
            7 => {
                let marker = [0x07, 0x0b, 0x0c][self.random.below(3)];
                self.objects.push(marker);
                self.output.extend([marker, 3, b'x']);
            }
            8 => {
                let marker = 0x0d + self.random.below(2) as u8;
                self.objects.push(marker);
                self.output.extend([marker, 3, 1, 0xff, 0xff, 0xff, 0xff]);
            }
            9 => {
                self.objects.push(0x08);
                self.output.extend([0x08, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
            10..=12 if !self.objects.is_empty() => {
                let index = self.random.below(self.objects.len());
                self.output.push(self.objects[index]);
                self.header(index << 1);
            }
            13 | 14 => {
                let count = self.random.below(3);
                self.begin(0x09, count << 1 | 1);
                if self.random.chance(2) {
                    self.named(depth);
                }
                self.output.push(1);
                self.values(count, depth);
            }
            15 => {
                let count = self.random.below(3);
                self.begin(0x11, count << 1 | 1);
                self.output.push(0);
                self.values(count * 2, depth);
            }
            16 => {
                let count = self.random.below(3);
                self.begin(0x10, count << 1 | 1);
                self.output.push(1);
                self.text("T");
                self.values(count, depth);
            }
            17..=20 => self.object(depth),
            _ => self.number_amf3(),
        }
    }

    fn object(&mut self, depth: usize) {
        self.objects.push(0x0a);
        self.output.push(0x0a);
        let (kind, sealed) = if !self.traits.is_empty() && self.random.chance(2) {
            let index = self.random.below(self.traits.len());
            self.header(index << 2 | 1);
            self.traits[index]
        } else {
            let (kind, sealed) = match self.random.below(5) {
                0 => (0b0111, 0),
                1 => (0b0011, self.random.below(3)),
                _ => (0b1011, self.random.below(3)),
            };
            self.header(sealed << 4 | kind);
            if kind == 0b0111 {
                // Spelled out: no other class will do.
                self.output.extend(b"\x3bflex.messaging.io.ObjectProxy");
                self.strings += 1;
            } else {
                self.text("C");
            }
            for _ in 0..sealed {
                let name = if self.random.chance(6) {
                    ""
                } else {
                    NAMES[self.random.below(NAMES.len())]
                };
                self.text(name);
            }
            self.traits.push((kind as u8, sealed));
            (kind as u8, sealed)
        };
        match kind {
            0b0111 => self.values(1, depth),
            0b0011 => self.values(sealed, depth),
            _ => {
                self.values(sealed, depth);
                self.named(depth);
                self.output.push(1);
            }
        }
    }

    fn begin(&mut self, marker: u8, header: usize) {
        self.objects.push(marker);
        self.output.push(marker);
        self.header(header);
    }

    fn values(&mut self, count: usize, depth: usize) {
        for _ in 0..count {
            self.amf3(depth.saturating_sub(1));
        }
    }

    fn named(&mut self, depth: usize) {
        for _ in 0..self.random.below(3) {
            let name = NAMES[self.random.below(NAMES.len())];
            self.text(name);
            self.values(1, depth);
        }
    }

    fn text(&mut self, text: &str) {
        if self.strings > 0 && self.random.chance(3) {
            let index = self.random.below(self.strings);
            return self.header(index << 1);
        }
        self.header(text.len() << 1 | 1);
        self.output.extend(text.as_bytes());
        self.strings += usize::from(!text.is_empty());
    }

    fn header(&mut self, value: usize) {
        if value >= 0x80 {
            self.output.push((value >> 7) as u8 | 0x80);
        }
        self.output.push(value as u8 & 0x7f);
    }

    fn number(&mut self) {
        self.output.extend([0x00, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn number_amf3(&mut self) {
        self.output.extend([0x05, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    }
}
