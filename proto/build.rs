//! Generates the services with a Rust protobuf compiler: no protoc is needed on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "headwater/v1/stream_log.proto",
        "headwater/v1/recording.proto",
        "headwater/v1/peers.proto",
        "headwater/v1/application.proto",
        "headwater/v1/handler.proto",
        "headwater/v1/node.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".headwater.v1")
        .codec_path("crate::codec::NodeCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
