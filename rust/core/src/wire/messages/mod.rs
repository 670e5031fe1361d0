//! The messages, one file an API. Fields are named as in Kafka's schemas.

// What every declaration needs, in one place.
mod prelude {
    pub(super) use bytes::Bytes;

    pub(super) use crate::wire::message::{api, default_of, message};
    pub(super) use crate::wire::{DecodeError, Decoder, Encoder, Str, Uuid, Version, Wire};
}

mod api_versions;
mod create_topics;
mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;

pub use api_versions::*;
pub use create_topics::*;
pub use fetch::*;
pub use find_coordinator::*;
pub use init_producer_id::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_commit::*;
pub use offset_fetch::*;
pub use offset_for_leader_epoch::*;
pub use produce::*;
