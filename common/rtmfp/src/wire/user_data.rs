//! User Data and Next User Data, with the options that start a flow: RFC 7016 sections 2.3.11 and 2.3.12.
//!
//! Functions take and give the payload of a chunk; its type and length are the packet's affair.

use bytes::BufMut;

use super::field::{
    Field, Fields, Malformed, put_marker, put_option, put_variable, variable_length,
};

/// Type of a User Data chunk.
pub const USER_DATA: u8 = 0x10;

/// Type of a Next User Data chunk.
pub const NEXT_USER_DATA: u8 = 0x11;

/// The longest metadata of a flow, in bytes (section 2.3.11.1.1).
pub const MAX_METADATA: usize = 512;

/// Flag: options follow the header.
pub(crate) const OPTIONS: u8 = 0x80;

/// Flag: the data of this sequence number are no more.
const ABANDONED: u8 = 0x02;

/// Flag: the last sequence number of the flow.
const FINAL: u8 = 0x01;

/// Option: the metadata of the flow.
const USER_METADATA: u64 = 0x00;

/// Option: the flow of the other direction to which this one is an answer.
const RETURN_ASSOCIATION: u64 = 0x0a;

/// Options of this type and above may be ignored by who does not know them; those below may not.
const FIRST_OPTIONAL: u64 = 8192;

/// Which part of a message a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Part {
    /// All of it.
    Whole = 0,
    /// The first of several.
    Begin = 1,
    /// The last of several.
    End = 2,
    /// Neither the first nor the last.
    Middle = 3,
}

impl Part {
    /// The part that goes from `start` to `end` of a message of `length` bytes.
    #[must_use]
    pub fn of(start: usize, end: usize, length: usize) -> Self {
        match (start == 0, end >= length) {
            (true, true) => Self::Whole,
            (true, false) => Self::Begin,
            (false, true) => Self::End,
            (false, false) => Self::Middle,
        }
    }

    /// Whether a message begins here.
    #[must_use]
    pub fn begins(self) -> bool {
        matches!(self, Self::Whole | Self::Begin)
    }

    /// Whether a message ends here.
    #[must_use]
    pub fn ends(self) -> bool {
        matches!(self, Self::Whole | Self::End)
    }

    fn from_flags(flags: u8) -> Self {
        match flags >> 4 & 0x03 {
            0 => Self::Whole,
            1 => Self::Begin,
            2 => Self::End,
            _ => Self::Middle,
        }
    }
}

/// Why a flow that begins so has to be rejected (section 3.6.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupFault {
    /// An option that may not be ignored, and that nobody here knows.
    #[error("option {0} is not known")]
    UnknownOption(u64),
    /// An option that may be there once is there again.
    #[error("option {0} is repeated")]
    Repeated(u64),
    /// Metadata of more than [`MAX_METADATA`] bytes.
    #[error("metadata of {0} bytes")]
    MetadataTooLong(usize),
    /// The association does not hold the identifier of a flow.
    #[error("the return association is malformed")]
    Association,
}

/// The options that start a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Startup<'a> {
    /// What the flow is for. Every flow has to say it.
    pub metadata: Option<&'a [u8]>,
    /// The identifier of a flow that the receiver of the option sends.
    pub association: Option<u64>,
    /// What is wrong with the options.
    pub fault: Option<StartupFault>,
}

impl<'a> Startup<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        let mut startup = Self::default();
        loop {
            let Field::Option { kind, value } = fields.option()? else {
                return Ok(startup);
            };
            if let Err(fault) = startup.take(kind, value) {
                startup.fault.get_or_insert(fault);
            }
        }
    }

    fn take(&mut self, kind: u64, value: &'a [u8]) -> Result<(), StartupFault> {
        match kind {
            USER_METADATA if value.len() > MAX_METADATA => {
                Err(StartupFault::MetadataTooLong(value.len()))
            }
            USER_METADATA if self.metadata.is_some() => Err(StartupFault::Repeated(kind)),
            USER_METADATA => {
                self.metadata = Some(value);
                Ok(())
            }
            RETURN_ASSOCIATION if self.association.is_some() => Err(StartupFault::Repeated(kind)),
            RETURN_ASSOCIATION => {
                let flow = Fields::new(value).variable();
                self.association = Some(flow.map_err(|_| StartupFault::Association)?);
                Ok(())
            }
            FIRST_OPTIONAL.. => Ok(()),
            _ => Err(StartupFault::UnknownOption(kind)),
        }
    }

    /// The options as they stand in a chunk, with the marker behind them.
    pub fn put(&self, out: &mut impl BufMut) {
        put_option(USER_METADATA, self.metadata.unwrap_or_default(), out);
        if let Some(flow) = self.association {
            let mut value = Vec::with_capacity(variable_length(flow));
            put_variable(flow, &mut value);
            put_option(RETURN_ASSOCIATION, &value, out);
        }
        put_marker(out);
    }
}

/// A fragment of a message in a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserData<'a> {
    /// The flow.
    pub flow: u64,
    /// The number of the fragment in the flow, from 1.
    pub sequence: u64,
    /// The forward sequence number: nothing up to it will be sent, or sent again.
    pub forward: u64,
    /// Which part of a message the data are.
    pub part: Part,
    /// Whether there are no data, and never will be.
    pub abandoned: bool,
    /// Whether no greater sequence number will come.
    pub last: bool,
    /// The options, where the chunk has a list of them.
    pub startup: Option<Startup<'a>>,
    /// The data. Without meaning where the fragment is abandoned.
    pub data: &'a [u8],
}

impl<'a> UserData<'a> {
    /// Reads a User Data chunk.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before the data, or the numbers contradict one another.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        let flags = fields.u8()?;
        let flow = fields.variable()?;
        let sequence = fields.variable()?;
        let offset = fields.variable()?;
        let forward = sequence.checked_sub(offset);
        let forward = forward.ok_or_else(|| fields.malformed("a forward number below zero"))?;
        if sequence == 0 {
            return Err(fields.malformed("a sequence number of zero"));
        }
        if offset == 0 && flags & ABANDONED == 0 {
            return Err(fields.malformed("data that will not be sent"));
        }
        Self {
            flow,
            sequence,
            forward,
            part: Part::Whole,
            abandoned: false,
            last: false,
            startup: None,
            data: &[],
        }
        .read_rest(flags, fields)
    }

    /// Reads a Next User Data chunk, which stands behind `previous` in the same packet.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before the data, or there is no next number.
    pub fn read_next(body: &'a [u8], previous: &UserData<'_>) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        let flags = fields.u8()?;
        let sequence = previous.sequence.checked_add(1);
        let sequence = sequence.ok_or_else(|| fields.malformed("no sequence number is left"))?;
        Self {
            flow: previous.flow,
            sequence,
            forward: previous.forward,
            part: Part::Whole,
            abandoned: false,
            last: false,
            startup: None,
            data: &[],
        }
        .read_rest(flags, fields)
    }

    fn read_rest(mut self, flags: u8, mut fields: Fields<'a>) -> Result<Self, Malformed> {
        self.part = Part::from_flags(flags);
        self.abandoned = flags & ABANDONED != 0;
        self.last = flags & FINAL != 0;
        if flags & OPTIONS != 0 {
            self.startup = Some(Startup::read(&mut fields)?);
        }
        self.data = fields.rest();
        Ok(self)
    }

    fn flags(&self) -> u8 {
        let mut flags = (self.part as u8) << 4;
        if self.startup.is_some() {
            flags |= OPTIONS;
        }
        if self.abandoned {
            flags |= ABANDONED;
        }
        if self.last {
            flags |= FINAL;
        }
        flags
    }

    /// Writes the header and the options of a User Data chunk; the data come behind it.
    pub fn put_header(&self, out: &mut impl BufMut) {
        out.put_u8(self.flags());
        put_variable(self.flow, out);
        put_variable(self.sequence, out);
        put_variable(self.sequence.saturating_sub(self.forward), out);
        if let Some(startup) = &self.startup {
            startup.put(out);
        }
    }

    /// Writes the header and the options of a Next User Data chunk; the data come behind it.
    pub fn put_next_header(&self, out: &mut impl BufMut) {
        out.put_u8(self.flags());
        if let Some(startup) = &self.startup {
            startup.put(out);
        }
    }

    /// Bytes that [`put_header`](Self::put_header) writes where there are no options.
    #[must_use]
    pub fn header_length(flow: u64, sequence: u64, forward: u64) -> usize {
        1 + variable_length(flow)
            + variable_length(sequence)
            + variable_length(sequence.saturating_sub(forward))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(sequence: u64, forward: u64, data: &[u8]) -> UserData<'_> {
        UserData {
            flow: 2,
            sequence,
            forward,
            part: Part::Whole,
            abandoned: false,
            last: false,
            startup: None,
            data,
        }
    }

    #[test]
    fn the_example_of_section_2_3_12_is_two_fragments_in_a_row() {
        let first = UserData::read(&[0x00, 0x02, 0x05, 0x03, 0x00, 0x01, 0x02]).unwrap();
        assert_eq!(first, data(5, 2, &[0, 1, 2]));
        let next = UserData::read_next(&[0x00, 0x03, 0x04, 0x05], &first).unwrap();
        assert_eq!(next, data(6, 2, &[3, 4, 5]));
        let mut out = Vec::new();
        first.put_header(&mut out);
        assert_eq!(out, [0, 2, 5, 3]);
        assert_eq!(out.len(), UserData::header_length(2, 5, 2));
        out.clear();
        next.put_next_header(&mut out);
        assert_eq!(out, [0]);
    }

    #[test]
    fn a_flow_begins_with_its_metadata_and_association() {
        // What a server sends first on its answer to flow 2: see RFC 7425 section 5.3.
        let body = [
            0x80, 0x02, 0x01, 0x01, 0x05, 0x00, 0x54, 0x43, 0x04, 0x00, 0x02, 0x0a, 0x02, 0x00,
            0x14,
        ];
        let read = UserData::read(&body).unwrap();
        let startup = Startup {
            metadata: Some(b"TC\x04\x00"),
            association: Some(2),
            fault: None,
        };
        assert_eq!(
            read,
            UserData {
                startup: Some(startup),
                ..data(1, 0, &[0x14])
            }
        );
        let mut out = Vec::new();
        read.put_header(&mut out);
        out.extend_from_slice(read.data);
        assert_eq!(out, body);
        for short in 0..body.len() - 1 {
            assert!(UserData::read(&body[..short]).is_err(), "{short}");
        }
    }

    #[test]
    fn parts_and_flags_survive_writing_and_reading() {
        for part in [Part::Whole, Part::Begin, Part::End, Part::Middle] {
            for (abandoned, last) in [(false, false), (true, false), (false, true), (true, true)] {
                let chunk = UserData {
                    part,
                    abandoned,
                    last,
                    ..data(1 << 40, (1 << 40) - 300, &[7])
                };
                let mut out = Vec::new();
                chunk.put_header(&mut out);
                out.push(7);
                assert_eq!(UserData::read(&out), Ok(chunk));
                out.clear();
                chunk.put_next_header(&mut out);
                out.push(7);
                let previous = data((1 << 40) - 1, (1 << 40) - 300, &[]);
                assert_eq!(UserData::read_next(&out, &previous), Ok(chunk));
            }
        }
        assert_eq!(Part::of(0, 5, 5), Part::Whole);
        assert_eq!(Part::of(0, 4, 5), Part::Begin);
        assert_eq!(Part::of(2, 4, 5), Part::Middle);
        assert_eq!(Part::of(4, 5, 5), Part::End);
        assert_eq!(Part::of(0, 0, 0), Part::Whole);
    }

    #[test]
    fn numbers_that_contradict_one_another_are_malformed() {
        let cases: [(&[u8], &str); 3] = [
            (&[0, 2, 5, 6], "a forward number below zero"),
            (&[0x02, 2, 0, 0], "a sequence number of zero"),
            (&[0, 2, 5, 0], "data that will not be sent"),
        ];
        for (body, what) in cases {
            assert_eq!(UserData::read(body).unwrap_err().what, what);
        }
        assert!(UserData::read(&[0x02, 2, 5, 0]).unwrap().abandoned);
        let last = data(u64::MAX, 0, &[]);
        assert!(UserData::read_next(&[0], &last).is_err());
    }

    #[test]
    fn options_that_cannot_be_obeyed_are_faults() {
        let fault = |options: &[u8]| {
            let body = [&[0x80, 2, 1, 1], options, &[0]].concat();
            UserData::read(&body).unwrap().startup.unwrap().fault
        };
        assert_eq!(fault(&[1, 0]), None);
        assert_eq!(fault(&[1, 5]), Some(StartupFault::UnknownOption(5)));
        assert_eq!(
            fault(&[2, 0xbf, 0x7f]),
            Some(StartupFault::UnknownOption(8191))
        );
        assert_eq!(fault(&[3, 0xc0, 0x00, 1]), None);
        assert_eq!(fault(&[1, 0, 1, 0]), Some(StartupFault::Repeated(0)));
        assert_eq!(
            fault(&[2, 0x0a, 1, 2, 0x0a, 1]),
            Some(StartupFault::Repeated(10))
        );
        assert_eq!(fault(&[1, 0x0a]), Some(StartupFault::Association));
        let long = [&[0x84, 0x02, 0x00][..], &[0; 513]].concat();
        assert_eq!(fault(&long), Some(StartupFault::MetadataTooLong(513)));
    }
}
