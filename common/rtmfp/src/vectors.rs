//! Bytes that a client made which was written from the specifications alone, and which two independent servers understood.

/// A packet with an IHello for `rtmfp://127.0.0.1/live`.
pub(crate) const HELLO_PACKET: &[u8] =
    b"\x0b\x12\x34\x30\x00\x29\x18\x17\x0artmfp://127.0.0.1/live\
    \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f";

/// The datagram that it travels in.
pub(crate) const HELLO_DATAGRAM: &str = "dbaac01cfca1018c270bc190845400349bb57e0234ae6c716251f54c00e51526\
    6043d3387dc835e5adbe5201c828d04e9e1a2fd96e51c0ccb2da72160965fcdfa80d6aae";

/// The secret, and the two components, of the keys in other vectors.
pub(crate) const SECRET: &[u8] = &[0x01, 0x23, 0x45, 0x67, 0x89];

/// The initiator's component.
pub(crate) fn initiator_component() -> Vec<u8> {
    let mut component = vec![0x81, 0x02, 0x0d, 0x02];
    component.extend([0x55; 128]);
    component.extend([0x03, 0x1a, 0x02, 0x0a, 0x02, 0x1e, 0x02]);
    component
}

/// The responder's component: the only form that librtmfp understands.
pub(crate) fn responder_component() -> Vec<u8> {
    let mut component = vec![0x03, 0x1a, 0, 0, 0x02, 0x1e, 0, 0x81, 0x02, 0x0d, 0x02];
    component.extend([0xaa; 128]);
    component
}

/// Bytes of hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(pair).collect()
}
