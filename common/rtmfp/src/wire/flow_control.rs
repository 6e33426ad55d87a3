//! Buffer Probe and Flow Exception Report: RFC 7016 sections 2.3.15 and 2.3.16.

use bytes::BufMut;

use super::field::{Fields, Malformed, put_variable};

/// Type of a Buffer Probe chunk.
pub const BUFFER_PROBE: u8 = 0x18;

/// Type of a Flow Exception Report chunk.
pub const FLOW_EXCEPTION_REPORT: u8 = 0x5e;

/// Asks the receiver of a flow how much it can take: to be answered with an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferProbe {
    /// The flow, which the sender of the chunk sends.
    pub flow: u64,
}

impl BufferProbe {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let flow = Fields::new(body).variable()?;
        Ok(Self { flow })
    }

    /// Writes it.
    pub fn put(&self, out: &mut impl BufMut) {
        put_variable(self.flow, out);
    }
}

/// Says that a flow is not wanted. Stands before every acknowledgement of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowException {
    /// The flow, which the receiver of the chunk sends.
    pub flow: u64,
    /// Why; 0 where there is no more to say.
    pub code: u64,
}

impl FlowException {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        Ok(Self {
            flow: fields.variable()?,
            code: fields.variable()?,
        })
    }

    /// Writes it.
    pub fn put(&self, out: &mut impl BufMut) {
        put_variable(self.flow, out);
        put_variable(self.code, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_as_they_were_written() {
        let mut out = Vec::new();
        let probe = BufferProbe { flow: 300 };
        probe.put(&mut out);
        assert_eq!(out, [0x82, 0x2c]);
        assert_eq!(BufferProbe::read(&out), Ok(probe));
        assert!(BufferProbe::read(&out[..1]).is_err());
        out.clear();
        let exception = FlowException { flow: 3, code: 128 };
        exception.put(&mut out);
        assert_eq!(out, [3, 0x81, 0]);
        assert_eq!(FlowException::read(&out), Ok(exception));
        assert!(FlowException::read(&out[..2]).is_err());
        assert!(FlowException::read(&out[..1]).is_err());
    }
}
