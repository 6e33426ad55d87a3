//! What a server says of how it stands.

use bytes::Bytes;
use headwater_amf::{Limits, Value, amf0};
use headwater_rtmp::status::{Status, StatusCode};

use crate::client::ClientError;

/// What a refused `connect` says.
pub(super) fn rejected(value: &Value) -> ClientError {
    let status = Status::from_value(value);
    let status = status.unwrap_or_else(|| Status::new(StatusCode::ConnectRejected));
    let extra = status.properties.iter().find(|(name, _)| name == "ex");
    let redirect = extra
        .and_then(|(_, extra)| extra.get("redirect"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    ClientError::Rejected {
        code: status.code.into_owned(),
        description: status.description,
        redirect,
    }
}

/// The status in a data message `onStatus` or `onPlayStatus`.
pub(super) fn data_status(payload: &Bytes) -> Option<Status> {
    const NAMES: [&[u8]; 2] = [b"\x02\x00\x08onStatus", b"\x02\x00\x0conPlayStatus"];

    if !NAMES.iter().any(|name| payload.starts_with(name)) {
        return None;
    }
    let values = amf0::decode_all(payload, Limits::DEFAULT).ok()?;
    values.get(1).and_then(Status::from_value)
}
