//! How messages are laid out between gRPC and its buffers: as protobuf, in buffers that begin small.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Bytes with which the buffers of a call begin, one per direction and end. They grow with the messages. A call lasts as long
/// as its stream, and one way it carries acknowledgements of a few bytes, so the 8 KiB of the gRPC library would mostly be
/// held for nothing: 32 KiB for each stream of a standalone node.
const FIRST_BUFFER: usize = 1 << 10;

/// Bytes of messages that wait in a row past which they are handed to HTTP/2: what the gRPC library does.
const YIELD_THRESHOLD: usize = 32 << 10;

/// The codec of every service of the contract.
#[derive(Clone, Copy, Debug)]
pub struct NodeCodec<T, U> {
    messages: PhantomData<(T, U)>,
}

impl<T, U> Default for NodeCodec<T, U> {
    fn default() -> Self {
        Self {
            messages: PhantomData,
        }
    }
}

impl<T, U> Codec for NodeCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(FIRST_BUFFER, YIELD_THRESHOLD)
}
