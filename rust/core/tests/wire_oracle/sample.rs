//! Random messages, made from random bytes: fewer and smaller bytes make simpler messages, so a failure shrinks.

use bytes::Bytes;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{Secret, Str, Uuid};

/// Bytes to make values of; zeros when they are used up.
pub(crate) struct Gen<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// The version the message will be written in.
    pub(crate) version: i16,
}

impl<'a> Gen<'a> {
    pub(crate) fn new(noise: &'a [u8], version: i16) -> Self {
        Self { bytes: noise.iter(), version }
    }

    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }
}

/// A value made of random bytes.
pub(crate) trait Sample: Sized {
    fn sample(g: &mut Gen<'_>) -> Self;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Sample for $ty {
            fn sample(g: &mut Gen<'_>) -> Self {
                match g.byte() % 8 {
                    0 => 0,
                    1 => -1,
                    2 => Self::MAX,
                    3 => Self::MIN,
                    _ => Self::from_be_bytes([(); size_of::<$ty>()].map(|()| g.byte())),
                }
            }
        }
    )*};
}
numbers!(i8 i16 i32 i64);

impl Sample for bool {
    fn sample(g: &mut Gen<'_>) -> Self {
        g.byte() % 2 == 1
    }
}

impl Sample for Uuid {
    fn sample(g: &mut Gen<'_>) -> Self {
        if g.byte().is_multiple_of(4) { Self::default() } else { Self([(); 16].map(|()| g.byte())) }
    }
}

impl Sample for Str {
    fn sample(g: &mut Gen<'_>) -> Self {
        let length = match g.byte() % 16 {
            // A compact length of two bytes.
            15 => 130 + usize::from(g.byte()),
            n => usize::from(n),
        };
        (0..length)
            .map(|_| ['a', 'Z', '0', '.', '"', '\\', '\n', 'é', '中', '🦀'][usize::from(g.byte() % 10)])
            .collect::<String>()
            .into()
    }
}

impl Sample for Bytes {
    fn sample(g: &mut Gen<'_>) -> Self {
        let length = match g.byte() % 16 {
            // Long enough not to be copied into the frame.
            15 => 512 + usize::from(g.byte()),
            n => usize::from(n),
        };
        let byte = g.byte();
        (0..length).map(|i| byte.wrapping_add(i as u8)).collect()
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(g: &mut Gen<'_>) -> Self {
        (0..g.byte() % 4).map(|_| T::sample(g)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(g: &mut Gen<'_>) -> Self {
        if g.byte().is_multiple_of(4) { None } else { Some(T::sample(g)) }
    }
}

impl<T: Sample> Sample for Secret<T> {
    fn sample(g: &mut Gen<'_>) -> Self {
        Self(T::sample(g))
    }
}

macro_rules! structs {
    ($($name:ident { $($field:ident)* })*) => {$(
        impl Sample for $name {
            fn sample(g: &mut Gen<'_>) -> Self {
                Self { $($field: Sample::sample(g),)* }
            }
        }
    )*};
}

structs! {
    ApiVersionsRequest { client_software_name client_software_version cluster_id node_id }
    ApiVersion { api_key min_version max_version }
    SupportedFeatureKey { name min_version max_version }
    FinalizedFeatureKey { name max_version_level min_version_level }
    ApiVersionsResponse {
        error_code api_keys throttle_time_ms supported_features finalized_features_epoch finalized_features
        zk_migration_ready
    }

    CreatePartitionsAssignment { broker_ids }
    CreatePartitionsTopic { name count assignments }
    CreatePartitionsRequest { topics timeout_ms validate_only }
    CreatePartitionsTopicResult { name error_code error_message }
    CreatePartitionsResponse { throttle_time_ms results }

    CreatableReplicaAssignment { partition_index broker_ids }
    CreatableTopicConfig { name value }
    CreatableTopic { name num_partitions replication_factor assignments configs }
    CreateTopicsRequest { topics timeout_ms validate_only }
    CreatableTopicConfigs { name value read_only config_source is_sensitive }
    CreatableTopicResult {
        name topic_id error_code error_message num_partitions replication_factor configs topic_config_error_code
    }
    CreateTopicsResponse { throttle_time_ms topics }

    DeleteRecordsPartition { partition_index offset }
    DeleteRecordsTopic { name partitions }
    DeleteRecordsRequest { topics timeout_ms }
    DeleteRecordsPartitionResult { partition_index low_watermark error_code }
    DeleteRecordsTopicResult { name partitions }
    DeleteRecordsResponse { throttle_time_ms topics }

    DeleteTopicState { name topic_id }
    DeleteTopicsRequest { topics topic_names timeout_ms }
    DeleteTopicsResponse { throttle_time_ms responses }

    DescribeClusterRequest { include_cluster_authorized_operations endpoint_type include_fenced_brokers }
    DescribeClusterBroker { broker_id host port rack is_fenced }
    DescribeClusterResponse {
        throttle_time_ms error_code error_message endpoint_type cluster_id controller_id brokers
        cluster_authorized_operations
    }

    DescribeConfigsResource { resource_type resource_name configuration_keys }
    DescribeConfigsRequest { resources include_synonyms include_documentation }
    DescribeConfigsSynonym { name value source }
    DescribeConfigsResourceResult {
        name value read_only config_source is_sensitive synonyms config_type documentation
    }
    DescribeConfigsResult { error_code error_message resource_type resource_name configs }
    DescribeConfigsResponse { throttle_time_ms results }

    FetchPartition {
        partition current_leader_epoch fetch_offset last_fetched_epoch log_start_offset partition_max_bytes
        replica_directory_id high_watermark
    }
    FetchTopic { topic topic_id partitions }
    ForgottenTopic { topic topic_id partitions }
    ReplicaState { replica_id replica_epoch }
    FetchRequest {
        replica_id max_wait_ms min_bytes max_bytes isolation_level session_id session_epoch topics
        forgotten_topics_data rack_id cluster_id replica_state
    }
    AbortedTransaction { producer_id first_offset }
    EpochEndOffset { epoch end_offset }
    SnapshotId { end_offset epoch }
    PartitionData {
        partition_index error_code high_watermark last_stable_offset log_start_offset aborted_transactions
        preferred_read_replica records diverging_epoch current_leader snapshot_id
    }
    FetchableTopicResponse { topic topic_id partitions }
    FetchResponse { throttle_time_ms error_code session_id responses node_endpoints }

    FindCoordinatorRequest { key key_type coordinator_keys }
    Coordinator { key node_id host port error_code error_message }
    FindCoordinatorResponse { throttle_time_ms error_code error_message node_id host port coordinators }

    AlterableConfig { name config_operation value }
    AlterConfigsResource { resource_type resource_name configs }
    IncrementalAlterConfigsRequest { resources validate_only }
    AlterConfigsResourceResponse { error_code error_message resource_type resource_name }
    IncrementalAlterConfigsResponse { throttle_time_ms responses }

    InitProducerIdRequest { transactional_id transaction_timeout_ms producer_id producer_epoch }
    InitProducerIdResponse { throttle_time_ms error_code producer_id producer_epoch }

    ListGroupsRequest { states_filter types_filter }
    ListedGroup { group_id protocol_type group_state group_type }
    ListGroupsResponse { throttle_time_ms error_code groups }

    ListOffsetsPartition { partition_index current_leader_epoch timestamp }
    ListOffsetsTopic { name partitions }
    ListOffsetsRequest { replica_id isolation_level topics timeout_ms }
    ListOffsetsPartitionResponse { partition_index error_code timestamp offset leader_epoch }
    ListOffsetsTopicResponse { name partitions }
    ListOffsetsResponse { throttle_time_ms topics }

    MetadataRequest {
        topics allow_auto_topic_creation include_cluster_authorized_operations
        include_topic_authorized_operations
    }
    MetadataResponseBroker { node_id host port rack }
    MetadataResponsePartition {
        error_code partition_index leader_id leader_epoch replica_nodes isr_nodes offline_replicas
    }
    MetadataResponse {
        throttle_time_ms brokers cluster_id controller_id topics cluster_authorized_operations error_code
    }

    OffsetCommitRequestPartition { partition_index committed_offset committed_leader_epoch committed_metadata }
    OffsetCommitRequestTopic { name topic_id partitions }
    OffsetCommitRequest { group_id generation_id_or_member_epoch member_id group_instance_id topics }
    OffsetCommitResponsePartition { partition_index error_code }
    OffsetCommitResponseTopic { name topic_id partitions }
    OffsetCommitResponse { throttle_time_ms topics }

    OffsetFetchRequestTopic { name topic_id partition_indexes }
    OffsetFetchRequestGroup { group_id member_id member_epoch topics }
    OffsetFetchRequest { group_id topics groups require_stable }
    OffsetFetchResponsePartition { partition_index committed_offset committed_leader_epoch metadata error_code }
    OffsetFetchResponseTopic { name topic_id partitions }
    OffsetFetchResponseGroup { group_id topics error_code }
    OffsetFetchResponse { throttle_time_ms topics error_code groups }

    OffsetForLeaderPartition { partition current_leader_epoch leader_epoch }
    OffsetForLeaderTopic { topic partitions }
    OffsetForLeaderEpochRequest { replica_id topics }
    EpochEndOffsetAnswer { error_code partition leader_epoch end_offset }
    OffsetForLeaderTopicResult { topic partitions }
    OffsetForLeaderEpochResponse { throttle_time_ms topics }

    PartitionProduceData { index records }
    TopicProduceData { name topic_id partition_data }
    ProduceRequest { transactional_id acks timeout_ms topic_data }
    BatchIndexAndErrorMessage { batch_index batch_index_error_message }
    LeaderIdAndEpoch { leader_id leader_epoch }
    NodeEndpoint { node_id host port rack }
    PartitionProduceResponse {
        index error_code base_offset log_append_time_ms log_start_offset record_errors error_message
        current_leader
    }
    TopicProduceResponse { name topic_id partition_responses }
    ProduceResponse { responses throttle_time_ms node_endpoints }

    SaslAuthenticateRequest { auth_bytes }
    SaslAuthenticateResponse { error_code error_message auth_bytes session_lifetime_ms }

    SaslHandshakeRequest { mechanism }
    SaslHandshakeResponse { error_code mechanisms }
}

// The only names that are nullable in some versions alone: a topic is asked for by id since version 10, answered without
// its name since version 12, and deleted by id since version 6.
impl Sample for MetadataRequestTopic {
    fn sample(g: &mut Gen<'_>) -> Self {
        Self { topic_id: Sample::sample(g), name: name_or_null_since(10, g) }
    }
}

impl Sample for MetadataResponseTopic {
    fn sample(g: &mut Gen<'_>) -> Self {
        Self {
            error_code: Sample::sample(g),
            name: name_or_null_since(12, g),
            topic_id: Sample::sample(g),
            is_internal: Sample::sample(g),
            partitions: Sample::sample(g),
            topic_authorized_operations: Sample::sample(g),
        }
    }
}

impl Sample for DeletableTopicResult {
    fn sample(g: &mut Gen<'_>) -> Self {
        Self {
            name: name_or_null_since(6, g),
            topic_id: Sample::sample(g),
            error_code: Sample::sample(g),
            error_message: Sample::sample(g),
        }
    }
}

fn name_or_null_since(version: i16, g: &mut Gen<'_>) -> Option<Str> {
    let name = Option::<Str>::sample(g);
    if g.version < version { Some(name.unwrap_or_default()) } else { name }
}
