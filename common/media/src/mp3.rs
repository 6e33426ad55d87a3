//! MP3 files as closed logs of audio frames, and their tags.
//!
//! # Specifications
//! - ISO/IEC 11172-3 and 13818-3, layer III, with the half sampling rates that are called MPEG-2.5.
//! - ID3v2.2, ID3v2.3 and ID3v2.4 (id3.org), ID3v1.1; the Xing, Info and VBRI headers of encoders.
//! - Adobe Flash Video File Format 10.1, E.4.2.1, for the byte before each frame in an RTMP message.
//!
//! # Positions and time
//! The position of a frame is its place in the file. Frames all last equally long, so its time comes from its number alone; where that is
//! is only known by going from frame to frame, so a file is read up to a place that is asked for, once. Bit rates that vary make no
//! difference.
//!
//! # Damage
//! What is no frame is skipped up to [`MAX_GARBAGE`], and takes no time. What cannot be skipped ends a piece, and the next one is
//! [`FileError::Invalid`](crate::file::FileError::Invalid). A frame that is cut off at the end is not given.
//!
//! # What it does not do
//! It reads no layers I and II, and no free format: that has no bit rate and so no way to tell the length of a frame. Gapless
//! playback is up to the player: the samples that encoders put before and after the sound are given like others.

mod file;
mod header;
mod id3;
mod length;
mod reader;

pub use file::Mp3File;
pub use id3::{Id3File, MAX_TAG_TEXT};
pub use reader::MAX_GARBAGE;

#[cfg(test)]
mod tests;
