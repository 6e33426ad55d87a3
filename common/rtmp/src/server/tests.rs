//! The server session against the client session, and against bytes.

mod calls;
mod connect;
mod order;
mod play;
mod publish;
mod split;
mod time;
