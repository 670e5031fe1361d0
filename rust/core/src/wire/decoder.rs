//! Reading values from bytes nobody has checked yet.

use std::fmt;

use bytes::Bytes;

/// Bytes that are not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A value goes on behind the end of the frame.
    #[error("the frame ends {missing} bytes too early")]
    Truncated {
        /// How many bytes were missing.
        missing: usize,
    },
    /// A length or count that cannot be.
    #[error("{what} says {length}, {available} bytes are left")]
    BadLength {
        /// What the length is of.
        what: &'static str,
        /// The length read.
        length: i64,
        /// The bytes left in the frame.
        available: usize,
    },
    /// Values that would take more memory than a frame of this size may.
    #[error(
        "its values take more than {allowed} bytes of memory, four times the frame and 1 MB; no broker answers like that"
    )]
    TooMuchMemory {
        /// The most that a frame of this size may take.
        allowed: usize,
    },
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A varint of more bytes than its type has.
    #[error("a varint is longer than its type allows")]
    LongVarint,
}

/// A byte of a frame becomes so many bytes of values at most. Of what brokers answer, partitions with one replica come
/// nearest: 26 bytes of metadata become 96.
const MEMORY_PER_BYTE: usize = 4;
/// What the values of any frame may take besides. Less than 1 MB, since the frame's own head is not charged.
const MEMORY_BASE: usize = 1_000_000;

/// Reads big-endian values one after the other; slices share the frame's memory.
///
/// What the values take is bounded: an array of empty strings takes sixteen times its bytes, and a frame of 100 MB that is
/// made of those would end the process. Arrays and strings are charged before memory is taken for them, and fail with
/// [`DecodeError::TooMuchMemory`] when they would exceed four times the frame and 1 MB. Charged is what is asked for; an
/// allocator may take more for small pieces (glibc 32 bytes for an array of one number).
pub struct Decoder {
    buf: Bytes,
    /// What may still be charged, and what could be at first.
    memory: usize,
    allowed: usize,
}

// What is read may be a password.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder over a whole frame.
    pub fn new(buf: Bytes) -> Self {
        let allowed = buf.len().saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_BASE);
        Self { buf, memory: allowed, allowed }
    }

    /// To be called before `bytes` are allocated for a value.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let left = self.memory.checked_sub(bytes);
        self.memory = left.ok_or(DecodeError::TooMuchMemory { allowed: self.allowed })?;
        Ok(())
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.buf.len()
    }

    /// The next `n` bytes, without a copy.
    pub fn take(&mut self, n: usize) -> Result<Bytes, DecodeError> {
        if n > self.buf.len() {
            return Err(DecodeError::Truncated { missing: n - self.buf.len() });
        }
        Ok(self.buf.split_to(n))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(bytes) = self.buf.first_chunk::<N>().copied() else {
            return Err(DecodeError::Truncated { missing: N - self.buf.len() });
        };
        bytes::Buf::advance(&mut self.buf, N);
        Ok(bytes)
    }

    /// One byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// 16 bits.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// 32 bits.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// 64 bits.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// 16 bytes.
    pub fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        self.array()
    }

    /// An unsigned varint of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for (i, &byte) in self.buf.iter().enumerate().take(5) {
            let bits = u32::from(byte & 0x7f);
            if i == 4 && bits > 0x0f {
                return Err(DecodeError::LongVarint);
            }
            value |= bits << (7 * i);
            if byte < 0x80 {
                bytes::Buf::advance(&mut self.buf, i + 1);
                return Ok(value);
            }
        }
        Err(if self.buf.len() < 5 { DecodeError::Truncated { missing: 1 } } else { DecodeError::LongVarint })
    }

    /// The length of a nullable thing: `None` for null. `least` is the fewest bytes one element can have; a length that
    /// the rest of the frame cannot hold is refused here, before anybody allocates for it.
    pub(super) fn length(
        &mut self,
        what: &'static str,
        compact: bool,
        wide: bool,
        least: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let length = match (compact, wide) {
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        if length == -1 {
            return Ok(None);
        }
        let available = self.remaining();
        match usize::try_from(length) {
            Ok(n) if n.saturating_mul(least) <= available => Ok(Some(n)),
            _ => Err(DecodeError::BadLength { what, length, available }),
        }
    }

    /// Skips a section of tagged fields (KIP-482).
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    /// Hands each tagged field's tag and bytes to `each`.
    pub(super) fn tagged_fields(
        &mut self,
        mut each: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let length = self.uvarint()? as usize;
            // What a field takes is charged to the frame, or a thousand fields had a thousand times the base.
            let mut field = Self { buf: self.take(length)?, memory: self.memory, allowed: self.allowed };
            each(tag, &mut field)?;
            self.memory = field.memory;
        }
        Ok(())
    }
}
