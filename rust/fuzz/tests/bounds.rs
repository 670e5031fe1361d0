//! What a broker says costs memory by what it sends, not by what it claims; and what real brokers send is within the bound.

use bytes::Bytes;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{DecodeError, Request, Uuid, decode_response, response_frame};
use kafka_fast_fuzz::memory::bounded;
use kafka_fast_fuzz::targets;

#[test]
fn a_length_takes_no_memory_before_its_bytes_come() {
    // 99 MB, and three bytes of them, at once and one by one.
    for piece in [19, 0] {
        targets::frames(&[piece, 0x05, 0xe6, 0x9e, 0xc0, 1, 2, 3]);
    }
    // 20 MB of them: memory follows.
    let mut stream = vec![19, 0x05, 0xe6, 0x9e, 0xc0];
    stream.resize(20 << 20, 7);
    targets::frames(&stream);
}

/// What is read of `answer`, within four times its bytes and 1 MB.
fn read<R: Request>(answer: Bytes, version: i16) -> Result<R::Response, DecodeError> {
    let (read, _) = bounded(answer.len(), || decode_response::<R>(answer.clone(), version));
    read.map(|(_, response)| response)
}

#[test]
fn small_elements_that_are_large_in_memory_are_refused_when_they_are_too_many() {
    // Empty strings take 2 bytes each, and 16 in memory.
    let handshake = |n: usize| {
        let head = [&[0; 6][..], &(n as i32).to_be_bytes()].concat();
        Bytes::from([head, vec![0; 2 * n]].concat())
    };
    let some = read::<SaslHandshakeRequest>(handshake(10_000), 1).unwrap();
    assert_eq!(some.mechanisms.len(), 10_000);
    let error = read::<SaslHandshakeRequest>(handshake(1_000_000), 1).unwrap_err();
    assert!(matches!(error, DecodeError::TooMuchMemory { .. }), "{error}");
}

fn sent<R: Request>(response: &R::Response, version: i16) -> Bytes {
    let frame = response_frame::<R>(response, version, 7);
    Bytes::from(frame.segments().collect::<Vec<_>>().concat()).slice(4..)
}

#[test]
fn what_large_clusters_answer_is_read() {
    // 40,000 partitions, with one replica each, which is where they are smallest beside what they become.
    let partition = |index| MetadataResponsePartition {
        partition_index: index,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    for (topics, partitions) in [(40_000, 1), (40, 1_000)] {
        let topic = |n: i32| MetadataResponseTopic {
            name: Some(format!("topic-{n}").into()),
            topic_id: Uuid([7; 16]),
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        };
        let response = MetadataResponse { topics: (0..topics).map(topic).collect(), ..Default::default() };
        for version in [4, 8, 9, 13] {
            let read = read::<MetadataRequest>(sent::<MetadataRequest>(&response, version), version);
            assert_eq!(read.unwrap().topics.len(), topics as usize, "version {version}");
        }
    }
    // As many in a fetch, none of which has anything.
    let topic = |n: i32| FetchableTopicResponse {
        topic: format!("topic-{n}").into(),
        topic_id: Uuid([7; 16]),
        partitions: vec![PartitionData { records: Some(Bytes::new()), ..Default::default() }],
    };
    let response = FetchResponse { responses: (0..40_000).map(topic).collect(), ..Default::default() };
    for version in [10, 11, 12, 18] {
        let read = read::<FetchRequest>(sent::<FetchRequest>(&response, version), version);
        assert_eq!(read.unwrap().responses.len(), 40_000, "version {version}");
    }
    // And committed offsets, with the empty text that most commits have.
    let partition = |partition_index| OffsetFetchResponsePartition {
        partition_index,
        metadata: Some("".into()),
        ..Default::default()
    };
    let topic = OffsetFetchResponseTopic {
        name: "t".into(),
        partitions: (0..100_000).map(partition).collect(),
        ..Default::default()
    };
    let group = OffsetFetchResponseGroup { group_id: "g".into(), topics: vec![topic], ..Default::default() };
    let response = OffsetFetchResponse { groups: vec![group], ..Default::default() };
    for version in [8, 9, 10] {
        read::<OffsetFetchRequest>(sent::<OffsetFetchRequest>(&response, version), version).unwrap();
    }
    let group = |n: i32| ListedGroup {
        group_id: format!("service-of-the-house-{n}").into(),
        protocol_type: "consumer".into(),
        group_state: "Stable".into(),
        group_type: "classic".into(),
    };
    let response = ListGroupsResponse { groups: (0..100_000).map(group).collect(), ..Default::default() };
    for version in [0, 3, 5] {
        read::<ListGroupsRequest>(sent::<ListGroupsRequest>(&response, version), version).unwrap();
    }
}
