//! The names of AMF0 data messages.

use bytes::Bytes;

/// What a data message does to the stream's sticky metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRole {
    /// Sets it: `@setDataFrame`, or `onMetaData` sent without it, which encoders mean the same way.
    SetMetadata,
    /// Removes it: `@clearDataFrame`.
    ClearMetadata,
    /// Leaves it alone: a call of a handler at every viewer, as `NetStream.send` makes it.
    Event,
}

/// The head of a data message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// The name of the metadata or of the handler.
    pub name: Bytes,
    /// What the message does.
    pub role: DataRole,
    /// The message without `@setDataFrame` or `@clearDataFrame`: it starts with the name, and is what viewers get of metadata.
    pub body: Bytes,
}

/// Recognises a data message by its first one or two AMF0 strings. `None` if it does not start with a string, or names no
/// metadata.
#[must_use]
pub fn data_message(payload: &Bytes) -> Option<DataMessage> {
    let (first, rest) = split_string(payload)?;
    let role = match &first[..] {
        b"@setDataFrame" => DataRole::SetMetadata,
        b"@clearDataFrame" => DataRole::ClearMetadata,
        b"onMetaData" => {
            return Some(DataMessage {
                name: first,
                role: DataRole::SetMetadata,
                body: payload.clone(),
            });
        }
        _ => {
            return Some(DataMessage {
                name: first,
                role: DataRole::Event,
                body: payload.clone(),
            });
        }
    };
    let (name, _) = split_string(&rest)?;
    Some(DataMessage {
        name,
        role,
        body: rest,
    })
}

/// The name in an AMF0 data message: its first string, or the second one after `@setDataFrame` and `@clearDataFrame`.
#[must_use]
pub fn metadata_name(payload: &Bytes) -> Option<Bytes> {
    data_message(payload).map(|message| message.name)
}

/// Splits an AMF0 string (marker 2, 16-bit length) off the front.
fn split_string(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let [2, high, low, rest @ ..] = &bytes[..] else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if rest.len() < length {
        return None;
    }
    Some((bytes.slice(3..3 + length), bytes.slice(3 + length..)))
}
