//! Both sides of the handshake.
