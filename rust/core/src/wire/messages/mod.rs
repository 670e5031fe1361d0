//! The messages, one file an API. Fields are named as in Kafka's schemas.

// What every declaration needs, in one place.
mod prelude {
    pub(super) use bytes::Bytes;

    pub(super) use crate::wire::message::{api, default_of, first_flexible, message};
    pub(super) use crate::wire::{DecodeError, Decoder, Encoder, Secret, Str, Uuid, Version, Wire};
}

mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod fetch;
mod find_coordinator;
mod incremental_alter_configs;
mod init_producer_id;
mod list_groups;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sasl_authenticate;
mod sasl_handshake;

pub use api_versions::*;
pub use create_partitions::*;
pub use create_topics::*;
pub use delete_records::*;
pub use delete_topics::*;
pub use describe_cluster::*;
pub use describe_configs::*;
pub use fetch::*;
pub use find_coordinator::*;
pub use incremental_alter_configs::*;
pub use init_producer_id::*;
pub use list_groups::*;
pub use list_offsets::*;
pub use metadata::*;
pub use offset_commit::*;
pub use offset_fetch::*;
pub use offset_for_leader_epoch::*;
pub use produce::*;
pub use sasl_authenticate::*;
pub use sasl_handshake::*;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, Uuid};

    const ID: Uuid = Uuid([7; 16]);

    /// Of a request in the older way, and of the same in the newer way.
    fn up_to<R: Request>(older: R, newer: R) -> (i16, i16) {
        assert!((R::VERSIONS.0..R::VERSIONS.1).contains(&older.up_to()));
        assert_eq!(newer.up_to(), R::VERSIONS.1);
        (older.up_to(), newer.up_to())
    }

    #[test]
    fn topics_without_an_id_go_by_name() {
        let produce = |topic_id| {
            let topic_data =
                [ID, topic_id].map(|topic_id| TopicProduceData { topic_id, ..Default::default() });
            ProduceRequest { topic_data: topic_data.into(), ..Default::default() }
        };
        assert_eq!(up_to(produce(Uuid::default()), produce(ID)), (12, 13));

        let fetch = |topic_id| {
            let topics = vec![FetchTopic { topic_id, ..Default::default() }];
            FetchRequest { topics, ..Default::default() }
        };
        assert_eq!(up_to(fetch(Uuid::default()), fetch(ID)), (12, 18));
        let forgotten = |topic_id| {
            let forgotten_topics_data = vec![ForgottenTopic { topic_id, ..Default::default() }];
            FetchRequest { forgotten_topics_data, ..Default::default() }
        };
        assert_eq!(up_to(forgotten(Uuid::default()), forgotten(ID)), (12, 18));

        let commit = |topic_id| {
            let topics = vec![OffsetCommitRequestTopic { topic_id, ..Default::default() }];
            OffsetCommitRequest { topics, ..Default::default() }
        };
        assert_eq!(up_to(commit(Uuid::default()), commit(ID)), (9, 10));

        let committed = |topic_id| {
            let topics = Some(vec![OffsetFetchRequestTopic { topic_id, ..Default::default() }]);
            let groups = vec![OffsetFetchRequestGroup { topics, ..Default::default() }];
            OffsetFetchRequest { groups, ..Default::default() }
        };
        assert_eq!(up_to(committed(Uuid::default()), committed(ID)), (9, 10));
    }

    #[test]
    fn what_was_filled_for_one_goes_in_no_version_for_several() {
        let groups = vec![OffsetFetchRequestGroup { group_id: "g".into(), ..Default::default() }];
        let several = OffsetFetchRequest { groups, ..Default::default() };
        assert_eq!(
            up_to(OffsetFetchRequest { group_id: "g".into(), ..Default::default() }, several),
            (7, 10)
        );

        let several = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..Default::default() };
        assert_eq!(up_to(FindCoordinatorRequest { key: "g".into(), ..Default::default() }, several), (3, 6));

        let topics = vec![DeleteTopicState { name: Some("t".into()), ..Default::default() }];
        let states = DeleteTopicsRequest { topics, ..Default::default() };
        let names = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
        assert_eq!(up_to(names, states), (5, 6));
    }
}
