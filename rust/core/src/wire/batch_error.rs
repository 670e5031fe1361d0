//! Why a batch cannot be read.

use super::codec::CodecError;

/// A batch that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Written before Kafka 0.11.
    #[error(
        "the batch at offset {offset} has the old format {magic}, which is not supported; rewrite the topic with a newer producer"
    )]
    OldMagic {
        /// Its first offset.
        offset: i64,
        /// Its format.
        magic: i8,
    },
    /// The checksum does not fit the bytes.
    #[error(
        "the batch at offset {offset} is corrupt: its checksum is {stored:08x}, its bytes give {computed:08x}"
    )]
    Corrupt {
        /// Its first offset.
        offset: i64,
        /// The CRC in the header.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// Its fields contradict each other or its bytes.
    #[error("the batch at offset {offset} makes no sense: {what}")]
    Malformed {
        /// Its first offset.
        offset: i64,
        /// What is wrong.
        what: &'static str,
    },
    /// Its records cannot be decompressed.
    #[error("the batch at offset {offset} cannot be read: {cause}")]
    Codec {
        /// Its first offset.
        offset: i64,
        /// Why.
        cause: CodecError,
    },
}
