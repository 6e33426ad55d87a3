//! A grey picture in H.264 that any decoder can show: constrained baseline, CAVLC, 320 x 180.
//!
//! A key frame is one intra slice in which each macroblock is predicted from the mean and has no residual; any other frame
//! is one slice in which all macroblocks are skipped. Filler data NAL units bring a frame to its size.

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::BitWriter;
use super::stamp::{self, STAMP_SIZE, Stamp};

pub(super) const WIDTH: u32 = 320;
pub(super) const HEIGHT: u32 = 180;

const WIDTH_IN_MACROBLOCKS: u32 = WIDTH.div_ceil(16);
const HEIGHT_IN_MACROBLOCKS: u32 = HEIGHT.div_ceil(16);
const MACROBLOCKS: u32 = WIDTH_IN_MACROBLOCKS * HEIGHT_IN_MACROBLOCKS;

const PROFILE: u8 = 66;
/// Constraint sets 0 and 1: constrained baseline.
const CONSTRAINTS: u8 = 0xc0;
const LEVEL: u8 = 40;

/// NAL unit header bytes: reference importance and type.
const SLICE: u8 = 0x41;
const IDR_SLICE: u8 = 0x65;
const SEI: u8 = 0x06;
const SEQUENCE_PARAMETERS: u8 = 0x67;
const PICTURE_PARAMETERS: u8 = 0x68;
const FILLER: u8 = 0x0c;

/// SEI payload type of unregistered user data.
const UNREGISTERED_USER_DATA: u8 = 5;

/// Bits of `frame_num`.
const FRAME_NUMBER_BITS: u32 = 4;
const FRAME_NUMBERS: usize = 1 << FRAME_NUMBER_BITS;

/// The slices of all frames that there can be.
#[derive(Clone, Debug)]
pub(super) struct Pictures {
    /// By `idr_pic_id`, which must differ between neighbours.
    key: [Bytes; 2],
    /// By `frame_num`.
    inter: [Bytes; FRAME_NUMBERS],
}

impl Pictures {
    pub(super) fn new() -> Self {
        Self {
            key: [0, 1].map(|id| Bytes::from(idr_slice(id))),
            inter: std::array::from_fn(|number| Bytes::from(skipped_slice(number as u32))),
        }
    }

    /// The body of a video tag of `size` bytes, or as few more as it takes. `gop` counts GOPs, `position` frames within one.
    pub(super) fn frame(&self, gop: u64, position: u64, size: usize, stamp: Stamp) -> BytesMut {
        let slice = if position == 0 {
            self.key.get((gop % 2) as usize)
        } else {
            self.inter.get((position % FRAME_NUMBERS as u64) as usize)
        };
        let slice = slice.map_or(&[][..], |slice| slice);
        let mut out = BytesMut::with_capacity(size.max(STAMP_SIZE + slice.len() + 32));
        // Frame type and codec id, packet type, composition time offset.
        out.put_slice(&[if position == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0]);

        out.put_u32(3 + STAMP_SIZE as u32 + 1);
        out.put_slice(&[SEI, UNREGISTERED_USER_DATA, STAMP_SIZE as u8]);
        out.put_slice(&stamp::encode(stamp));
        out.put_u8(0x80);

        out.put_u32(slice.len() as u32);
        out.put_slice(slice);

        // Length, header and stop bit take 6 bytes.
        if let Some(filler) = size.checked_sub(out.len() + 6) {
            out.put_u32(filler as u32 + 2);
            out.put_u8(FILLER);
            out.put_bytes(0xff, filler);
            out.put_u8(0x80);
        }
        out
    }
}

/// The body of a video tag with the AVCDecoderConfigurationRecord (ISO/IEC 14496-15, section 5.3.3.1).
pub(super) fn sequence_header(frames_per_second: u32) -> Bytes {
    let sequence = sequence_parameters(frames_per_second);
    let picture = picture_parameters();
    let mut out = vec![0x17, 0, 0, 0, 0];
    // Version, profile, level; NAL unit lengths of 4 bytes; one set of each kind of parameters.
    out.extend_from_slice(&[1, PROFILE, CONSTRAINTS, LEVEL, 0xff, 0xe1]);
    out.extend_from_slice(&(sequence.len() as u16).to_be_bytes());
    out.extend_from_slice(&sequence);
    out.push(1);
    out.extend_from_slice(&(picture.len() as u16).to_be_bytes());
    out.extend_from_slice(&picture);
    out.into()
}

/// Section 7.3.2.1.1.
fn sequence_parameters(frames_per_second: u32) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.bits(8, PROFILE.into())
        .bits(8, CONSTRAINTS.into())
        .bits(8, LEVEL.into())
        .unsigned(0) // seq_parameter_set_id
        .unsigned(FRAME_NUMBER_BITS - 4)
        .unsigned(2) // pic_order_cnt_type: output order is decoding order
        .unsigned(1) // max_num_ref_frames
        .bits(1, 0) // gaps_in_frame_num_value_allowed_flag
        .unsigned(WIDTH_IN_MACROBLOCKS - 1)
        .unsigned(HEIGHT_IN_MACROBLOCKS - 1)
        .bits(1, 1) // frame_mbs_only_flag
        .bits(1, 1) // direct_8x8_inference_flag
        .bits(1, 1) // frame_cropping_flag; offsets left, right, top, bottom in units of two samples
        .unsigned(0)
        .unsigned((WIDTH_IN_MACROBLOCKS * 16 - WIDTH) / 2)
        .unsigned(0)
        .unsigned((HEIGHT_IN_MACROBLOCKS * 16 - HEIGHT) / 2)
        .bits(1, 1) // vui_parameters_present_flag
        .bits(4, 0) // aspect ratio, overscan, video signal type, chroma location
        .bits(1, 1) // timing_info_present_flag
        .bits(32, 1) // num_units_in_tick; a tick is half a frame
        .bits(32, frames_per_second.saturating_mul(2))
        .bits(1, 1) // fixed_frame_rate_flag
        .bits(4, 0); // two HRDs, pic_struct, bitstream restriction
    bits.into_nal_unit(SEQUENCE_PARAMETERS)
}

/// Section 7.3.2.2.
fn picture_parameters() -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.unsigned(0) // pic_parameter_set_id
        .unsigned(0) // seq_parameter_set_id
        .bits(2, 0) // CAVLC, no bottom field order
        .unsigned(0) // num_slice_groups_minus1
        .unsigned(0) // num_ref_idx_l0_default_active_minus1
        .unsigned(0) // num_ref_idx_l1_default_active_minus1
        .bits(3, 0) // no weighted prediction
        .signed_zero() // pic_init_qp_minus26
        .signed_zero() // pic_init_qs_minus26
        .signed_zero() // chroma_qp_index_offset
        .bits(1, 1) // deblocking_filter_control_present_flag
        .bits(2, 0); // constrained intra prediction, redundant pictures
    bits.into_nal_unit(PICTURE_PARAMETERS)
}

/// Sections 7.3.3 to 7.3.5.
fn idr_slice(idr_pic_id: u32) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.unsigned(0) // first_mb_in_slice
        .unsigned(7) // slice_type: I, as all slices of the picture
        .unsigned(0) // pic_parameter_set_id
        .bits(FRAME_NUMBER_BITS, 0)
        .unsigned(idr_pic_id)
        .bits(2, 0) // no_output_of_prior_pics_flag, long_term_reference_flag
        .signed_zero() // slice_qp_delta
        .unsigned(1); // disable_deblocking_filter_idc
    for _ in 0..MACROBLOCKS {
        bits.unsigned(3) // mb_type: Intra 16x16, DC prediction, no coefficients but DC
            .unsigned(0) // intra_chroma_pred_mode: DC
            .signed_zero() // mb_qp_delta
            .bits(1, 1); // coeff_token: no DC coefficients either
    }
    bits.into_nal_unit(IDR_SLICE)
}

fn skipped_slice(frame_number: u32) -> Vec<u8> {
    let mut bits = BitWriter::default();
    bits.unsigned(0) // first_mb_in_slice
        .unsigned(5) // slice_type: P, as all slices of the picture
        .unsigned(0) // pic_parameter_set_id
        .bits(FRAME_NUMBER_BITS, frame_number)
        .bits(3, 0) // reference count, list and marking as usual
        .signed_zero() // slice_qp_delta
        .unsigned(1) // disable_deblocking_filter_idc
        .unsigned(MACROBLOCKS); // mb_skip_run
    bits.into_nal_unit(SLICE)
}
