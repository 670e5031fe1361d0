//! Every message in every version, both ways, against the crate `kafka-protocol` (generated from Kafka's schemas).
//!
//! Random values are written by us and read by the oracle, which must find the same value in every field of the same name
//! and write the same bytes again; those bytes are read by us and must give what the oracle has. Fields a version does not
//! have must come out as the schema's defaults. What differs by name only is compared through [`tree`]. What the oracle does
//! not know or gets wrong is in [`golden`].

mod golden;
mod sample;
mod tree;

use bytes::{Bytes, BytesMut};
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{
    self, DecodeError, Decoder, Encoder, ErrorCode, Request, RequestHeader, Version, Wire, correlation_id,
    decode_request, decode_response, frame, response_frame,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};
use proptest::collection::vec;
use proptest::prelude::*;

use sample::{Gen, Sample};
use tree::tree;

/// What it takes to compare a message of ours with one of the oracle.
trait Ours: Wire + Sample + std::fmt::Debug + Clone + PartialEq {}
impl<T: Wire + Sample + std::fmt::Debug + Clone + PartialEq> Ours for T {}

trait Theirs: Encodable + Decodable + HeaderVersion + Message + std::fmt::Debug + Clone {}
impl<T: Encodable + Decodable + HeaderVersion + Message + std::fmt::Debug + Clone> Theirs for T {}

fn bytes_of<M: Wire>(message: &M, v: Version) -> Bytes {
    let mut out = Encoder::new();
    message.write(&mut out, v);
    out.into_bytes()
}

fn read_all<M: Wire>(bytes: Bytes, v: Version) -> Result<M, DecodeError> {
    let mut d = Decoder::new(bytes);
    let message = M::read(&mut d, v)?;
    assert_eq!(d.remaining(), 0, "bytes are left over at {v:?}");
    Ok(message)
}

/// One message at one version, both ways. Returns its bytes.
fn agree<M: Ours, K: Theirs>(message: &M, v: Version) -> Bytes {
    let bytes = bytes_of(message, v);
    let mut rest = bytes.clone();
    let theirs = K::decode(&mut rest, v.number).unwrap_or_else(|e| panic!("{v:?} {message:?}: {e}"));
    assert!(rest.is_empty(), "the oracle leaves {} bytes at {v:?} of {message:?}", rest.len());

    let mut again = BytesMut::new();
    theirs.encode(&mut again, v.number).unwrap_or_else(|e| panic!("{v:?} {theirs:?}: {e}"));
    assert_eq!(again, bytes, "the oracle writes other bytes at {v:?} for {theirs:?}");

    let ours: M = read_all(again.freeze(), v).expect("the oracle's bytes are read");
    tree(&format!("{ours:?}")).agrees_with(&tree(&format!("{theirs:?}")));
    tree(&format!("{ours:?}")).is_part_of(&tree(&format!("{message:?}")));
    assert_eq!(bytes_of(&ours, v), bytes, "reading and writing again changes the bytes at {v:?}");
    bytes
}

/// The newest version of an API that the oracle has both messages of; above it the golden bytes are held against.
fn newest_known<R: Request, Q: Theirs, A: Theirs>() -> i16 {
    R::VERSIONS.1.min(Q::VERSIONS.max).min(A::VERSIONS.max)
}

/// A request and its answer in every version the oracle knows, with headers and frames.
fn api<R, Q, A>(noise: &[u8])
where
    R: Request + Ours,
    R::Response: Ours,
    Q: Theirs,
    A: Theirs,
{
    for number in R::VERSIONS.0..=newest_known::<R, Q, A>() {
        let v = R::version(number);
        let mut g = Gen::new(noise, number);
        let request = R::sample(&mut g);
        let response = R::Response::sample(&mut g);
        let (correlation, client) = (i32::sample(&mut g), wire::Str::sample(&mut g));

        let body = agree::<R, Q>(&request, v);
        let mut expected = BytesMut::new();
        kp::RequestHeader::default()
            .with_request_api_key(R::KEY as i16)
            .with_request_api_version(number)
            .with_correlation_id(correlation)
            .with_client_id(Some(client.to_string().into()))
            .encode(&mut expected, Q::header_version(number))
            .unwrap();
        expected.extend_from_slice(&body);
        let sent = payload(&frame(&request, number, correlation, &client));
        assert_eq!(sent, expected);
        let (header, back) = decode_request::<R>(sent).unwrap();
        let expected = RequestHeader {
            api_key: R::KEY as i16,
            api_version: number,
            correlation_id: correlation,
            client_id: Some(client),
        };
        assert_eq!(header, expected);
        assert_eq!(bytes_of(&back, v), body);

        let body = agree::<R::Response, A>(&response, v);
        let mut expected = BytesMut::new();
        kp::ResponseHeader::default()
            .with_correlation_id(correlation)
            .encode(&mut expected, A::header_version(number))
            .unwrap();
        expected.extend_from_slice(&body);
        let sent = payload(&response_frame::<R>(&response, number, correlation));
        assert_eq!(sent, expected);
        assert_eq!(correlation_id(&sent), Some(correlation));
        let (id, back) = decode_response::<R>(sent, number).unwrap();
        assert_eq!((id, bytes_of(&back, v)), (correlation, body));
    }
}

/// The bytes behind the length prefix, which must say how many they are; no segment may be empty.
fn payload(frame: &wire::Frame) -> Bytes {
    assert!(frame.segments().all(|segment| !segment.is_empty()));
    let all = frame.segments().collect::<Vec<_>>().concat();
    assert_eq!(all.len(), frame.len());
    assert_eq!(all[..4], ((all.len() - 4) as u32).to_be_bytes());
    Bytes::from(all).slice(4..)
}

/// How many values of each message are made: 200, or what the environment says.
fn cases() -> u32 {
    let stated = std::env::var("WIRE_ORACLE_CASES").ok();
    stated.map_or(200, |cases| cases.parse().expect("WIRE_ORACLE_CASES is a number"))
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..1500)
}

macro_rules! apis {
    ($($test:ident: $request:ident $response:ident,)*) => {
        #[test]
        fn golden_bytes_are_read_and_written() {
            let held =
                [$( golden::api::<$request>(newest_known::<$request, kp::$request, kp::$response>()), )*];
            golden::nothing_is_left(&held);
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() })]
            $(
                #[test]
                fn $test(noise in noise()) {
                    api::<$request, kp::$request, kp::$response>(&noise);
                }
            )*

            #[test]
            fn broken_bytes_are_errors_and_never_panics(
                noise in noise(),
                cut in any::<prop::sample::Index>(),
                changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            ) {
                $( broken::<$request>(&noise, &cut, &changes); )*
            }
        }
    };
}

apis! {
    api_versions: ApiVersionsRequest ApiVersionsResponse,
    create_partitions: CreatePartitionsRequest CreatePartitionsResponse,
    create_topics: CreateTopicsRequest CreateTopicsResponse,
    delete_records: DeleteRecordsRequest DeleteRecordsResponse,
    delete_topics: DeleteTopicsRequest DeleteTopicsResponse,
    describe_cluster: DescribeClusterRequest DescribeClusterResponse,
    describe_configs: DescribeConfigsRequest DescribeConfigsResponse,
    fetch: FetchRequest FetchResponse,
    find_coordinator: FindCoordinatorRequest FindCoordinatorResponse,
    incremental_alter_configs: IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
    init_producer_id: InitProducerIdRequest InitProducerIdResponse,
    list_groups: ListGroupsRequest ListGroupsResponse,
    list_offsets: ListOffsetsRequest ListOffsetsResponse,
    metadata: MetadataRequest MetadataResponse,
    offset_commit: OffsetCommitRequest OffsetCommitResponse,
    offset_fetch: OffsetFetchRequest OffsetFetchResponse,
    offset_for_leader_epoch: OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
    produce: ProduceRequest ProduceResponse,
    sasl_authenticate: SaslAuthenticateRequest SaslAuthenticateResponse,
    sasl_handshake: SaslHandshakeRequest SaslHandshakeResponse,
}

/// Cuts and changes what is valid: a cut is an error, a change anything but a panic.
fn broken<R>(noise: &[u8], cut: &prop::sample::Index, changes: &[(prop::sample::Index, u8)])
where
    R: Request + Sample,
    R::Response: Sample,
{
    for number in R::VERSIONS.0..=R::VERSIONS.1 {
        let mut g = Gen::new(noise, number);
        let request = payload(&frame(&R::sample(&mut g), number, 7, "client"));
        let response = payload(&response_frame::<R>(&R::Response::sample(&mut g), number, 7));
        for bytes in [request, response] {
            let cut = bytes.slice(..cut.index(bytes.len()));
            let mut changed = bytes.to_vec();
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = *byte;
            }
            // A request's version is in its bytes; one changed there may be one that is not spoken.
            let _ = decode_request::<R>(changed.clone().into());
            let _ = decode_response::<R>(changed.into(), number);
            let _ = decode_request::<R>(cut.clone());
            let _ = decode_response::<R>(cut, number);
        }
        // Every cut of an answer is noticed: nothing is read as a default because the bytes ended.
        let whole =
            payload(&response_frame::<R>(&R::Response::sample(&mut Gen::new(noise, number)), number, 7));
        let at = cut.index(whole.len());
        assert!(decode_response::<R>(whole.slice(..at), number).is_err(), "{number} cut at {at}");
    }
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    let tag = |n: usize| (9_999, Bytes::from(vec![0xff; n]));
    let with = |n| std::collections::BTreeMap::from([tag(n)]);
    let partition = kp::fetch_response::PartitionData::default()
        .with_partition_index(3)
        .with_high_watermark(17)
        .with_current_leader(
            kp::fetch_response::LeaderIdAndEpoch::default()
                .with_leader_id(5.into())
                .with_unknown_tagged_fields(with(3)),
        )
        .with_records(Some(Bytes::from_static(b"records")))
        .with_unknown_tagged_fields(with(300));
    let topic = kp::fetch_response::FetchableTopicResponse::default()
        .with_partitions(vec![partition.clone(), partition])
        .with_unknown_tagged_fields(with(0));
    let response = kp::FetchResponse::default()
        .with_session_id(11)
        .with_responses(vec![topic])
        .with_unknown_tagged_fields(with(1));
    for number in 12..=18 {
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, number).unwrap();
        let ours: FetchResponse = read_all(bytes.freeze(), FetchRequest::version(number)).unwrap();
        assert_eq!(ours.session_id, 11);
        assert_eq!(ours.responses[0].partitions.len(), 2);
        for partition in &ours.responses[0].partitions {
            assert_eq!((partition.partition_index, partition.high_watermark), (3, 17));
            assert_eq!(partition.current_leader.leader_id, 5);
            assert_eq!(partition.records.as_deref(), Some(&b"records"[..]));
        }
    }
}

#[test]
fn records_are_slices_of_the_frame_and_segments_of_the_request() {
    let records = Bytes::from(vec![7; 100_000]);
    let data = PartitionProduceData { index: 0, records: Some(records.clone()) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest { topic_data: vec![topic], ..Default::default() };
    let sent = frame(&request, 9, 1, "c");
    let shared = |part: &[u8], whole: &[u8]| whole.as_ptr_range().contains(&part.as_ptr());
    assert!(
        sent.segments().any(|segment| shared(segment, &records)),
        "the records were copied into the request"
    );

    let sent = payload(&sent);
    let (_, back) = decode_request::<ProduceRequest>(sent.clone()).unwrap();
    let got = back.topic_data[0].partition_data[0].records.clone().unwrap();
    assert_eq!(got, records);
    assert!(shared(&got, &sent), "the records were copied out of the frame");
}

#[test]
fn lengths_that_cannot_be_are_refused_before_memory_is_taken() {
    // An array of 2^31 - 1 brokers in twelve bytes; taken at its word it would be gigabytes.
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&i32::MAX.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let error = read_all::<MetadataResponse>(bytes.into(), MetadataRequest::version(4)).unwrap_err();
    assert_eq!(error, DecodeError::BadLength { what: "an array", length: i64::from(i32::MAX), available: 4 });
    // The same in the compact form.
    let bytes = [&[0; 4][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    let error = read_all::<MetadataResponse>(bytes.into(), MetadataRequest::version(9)).unwrap_err();
    assert!(matches!(error, DecodeError::BadLength { .. }), "{error}");
    // A varint of more than 32 bits, and a negative length.
    let bytes = [&[0; 4][..], &[0xff, 0xff, 0xff, 0xff, 0x1f]].concat();
    let error = read_all::<MetadataResponse>(bytes.into(), MetadataRequest::version(9)).unwrap_err();
    assert_eq!(error, DecodeError::LongVarint);
    let bytes = [&[0; 4][..], &(-2_i32).to_be_bytes()].concat();
    let error = read_all::<MetadataResponse>(bytes.into(), MetadataRequest::version(4)).unwrap_err();
    assert!(matches!(error, DecodeError::BadLength { length: -2, .. }), "{error}");
}

/// The oracle's table of error codes is generated from Kafka's `Errors`; where we differ is said in `error_code.rs`. Newer
/// ones than it knows are in the golden bytes.
#[test]
fn error_codes_are_named_and_treated_as_in_kafka() {
    let tried_again = [
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::BROKER_NOT_AVAILABLE,
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::REBOOTSTRAP_REQUIRED,
    ];
    for code in (-1..=133).map(ErrorCode).filter(|code| !code.is_ok()) {
        let theirs = ResponseError::try_from_code(code.0).expect("not success");
        assert_eq!(code.name().replace('_', ""), format!("{theirs:?}").to_uppercase(), "{}", code.0);
        assert_eq!(code.retriable(), theirs.is_retriable() || tried_again.contains(&code), "{code}");
        assert!(code.retriable() || !code.refresh_metadata(), "{code}");
    }
}
