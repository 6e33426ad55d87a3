//! Numbers, texts and names in stored bytes.

use bytes::{Buf, BufMut, BytesMut};

use super::SegmentError;
use crate::frame::{Epoch, Offset};
use crate::name::StreamName;

/// Stands for a time that is not there.
const NO_TIME: u64 = u64::MAX;

/// Fields one after the other, with the place of the first one for errors.
pub(super) struct Fields<'a> {
    data: &'a [u8],
    place: u64,
}

impl<'a> Fields<'a> {
    pub(super) fn new(data: &'a [u8], place: u64) -> Self {
        Self { data, place }
    }

    /// Where the next field stands.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.data
    }

    pub(super) fn error(&self, what: &'static str) -> SegmentError {
        SegmentError::new(self.place, what)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], SegmentError> {
        let (taken, rest) = self
            .data
            .split_at_checked(length)
            .ok_or_else(|| self.error("ends inside of a field"))?;
        self.data = rest;
        self.place = self.place.saturating_add(length as u64);
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SegmentError> {
        Ok(self.bytes(1)?.get_u8())
    }

    pub(super) fn u16(&mut self) -> Result<u16, SegmentError> {
        Ok(self.bytes(2)?.get_u16())
    }

    pub(super) fn u32(&mut self) -> Result<u32, SegmentError> {
        Ok(self.bytes(4)?.get_u32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, SegmentError> {
        Ok(self.bytes(8)?.get_u64())
    }

    pub(super) fn offset(&mut self) -> Result<Offset, SegmentError> {
        Ok(Offset {
            epoch: Epoch(self.u64()?),
            sequence: self.u64()?,
        })
    }

    pub(super) fn time(&mut self) -> Result<Option<u64>, SegmentError> {
        Ok(Some(self.u64()?).filter(|time| *time != NO_TIME))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, SegmentError> {
        let length = self.u16()?;
        let place = self.place;
        let bytes = self.bytes(length.into())?;
        std::str::from_utf8(bytes).map_err(|_| SegmentError::new(place, "a text is not UTF-8"))
    }

    pub(super) fn name(&mut self) -> Result<StreamName, SegmentError> {
        let place = self.place;
        let (vhost, app) = (self.text()?, self.text()?);
        let (instance, stream) = (self.text()?, self.text()?);
        StreamName::new(vhost, app, instance, stream)
            .map_err(|_| SegmentError::new(place, "a name that is not allowed"))
    }
}

pub(super) fn put_offset(offset: Offset, out: &mut BytesMut) {
    out.put_u64(offset.epoch.0);
    out.put_u64(offset.sequence);
}

pub(super) fn put_time(time: Option<u64>, out: &mut BytesMut) {
    out.put_u64(time.unwrap_or(NO_TIME));
}

/// At most [`u16::MAX`] bytes; a longer text is cut between two characters.
pub(super) fn put_text(text: &str, out: &mut BytesMut) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    let text = text.get(..end).unwrap_or_default();
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

pub(super) fn put_name(name: &StreamName, out: &mut BytesMut) {
    for part in [&name.vhost, &name.app, &name.instance, &name.stream] {
        put_text(part, out);
    }
}
