//! What the oracle cannot say is held against bytes that kafka-clients wrote: versions newer than it knows, headers that
//! repeat, batches cut off, control batches, aborted transactions, error codes. `golden/Goldens.java` made the files and
//! says how to make them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use kafka_fast::config::Codec;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{
    Batch, BatchBuilder, BatchError, Batches, ErrorCode, Header, OpenBatch, ProducerStamp, Record, RecordRef,
    Request, Version, decode_response, response_frame,
};

use super::tree::tree;
use super::{Ours, bytes_of, payload, read_all};

const MESSAGES: &str = include_str!("golden/messages.txt");
const ABORTED: &str = include_str!("golden/aborted.txt");
const RECORDS: &str = include_str!("golden/records.txt");
const ERRORS: &str = include_str!("golden/errors.txt");

const LIMIT: usize = 1 << 20;

/// A message as kafka-clients wrote it, and the value it read there.
struct Golden<'a> {
    api: &'a str,
    kind: &'a str,
    version: i16,
    bytes: Bytes,
    text: &'a str,
}

fn goldens(file: &str) -> impl Iterator<Item = Golden<'_>> {
    file.lines().map(|line| {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().expect("a line has five words");
        let (api, kind, version) = (word(), word(), word().parse().expect("a version is a number"));
        Golden { api, kind, version, bytes: unhex(word()), text: word() }
    })
}

fn unhex(text: &str) -> Bytes {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".into(),
        Some([]) => "empty".into(),
        Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// The same value in every field and the same bytes again.
fn holds<M: Ours>(golden: &Golden<'_>, v: Version) {
    let ours: M = read_all(golden.bytes.clone(), v)
        .unwrap_or_else(|e| panic!("{} {} {v:?}: {e}", golden.api, golden.kind));
    tree(golden.text).agrees_with(&tree(&format!("{ours:?}")));
    assert_eq!(bytes_of(&ours, v), golden.bytes, "{v:?} {ours:?}");
}

/// All of one API: its newest version, and what the oracle, which knows it up to `known`, cannot say. Returns its name.
pub(crate) fn api<R>(known: i16) -> String
where
    R: Request + Ours,
    R::Response: Ours,
{
    let name = format!("{:?}", R::KEY);
    let mut held = BTreeMap::<i16, (usize, usize)>::new();
    for golden in goldens(MESSAGES).filter(|golden| golden.api == name) {
        let (v, held) = (R::version(golden.version), held.entry(golden.version).or_default());
        if golden.kind == "Request" {
            holds::<R>(&golden, v);
            held.0 += 1;
        } else {
            holds::<R::Response>(&golden, v);
            held.1 += 1;
        }
    }
    let newest = R::VERSIONS.1;
    for version in newest.min(known + 1)..=newest {
        assert_eq!(held.get(&version), Some(&(4, 4)), "there are no golden bytes of {name} {version}");
    }
    assert_eq!(held.into_keys().max(), Some(newest), "{name} has a newer version");
    name
}

/// Every API there are bytes of was held against them.
pub(crate) fn nothing_is_left(held: &[String]) {
    for golden in goldens(MESSAGES) {
        assert!(held.iter().any(|name| name == golden.api), "{} is not compared", golden.api);
    }
}

#[test]
fn secrets_are_where_they_belong() {
    // They are not shown, so nothing above has compared them but by their bytes.
    let mut seen = 0;
    for golden in
        goldens(MESSAGES).filter(|golden| golden.api == "SaslAuthenticate" && golden.kind == "Request")
    {
        let v = SaslAuthenticateRequest::version(golden.version);
        let ours: SaslAuthenticateRequest = read_all(golden.bytes, v).unwrap();
        assert_eq!(golden.text, format!("Struct {{ auth_bytes: {:?} }}", ours.auth_bytes.0));
        seen += 1;
    }
    for golden in
        goldens(MESSAGES).filter(|golden| golden.api == "IncrementalAlterConfigs" && golden.kind == "Request")
    {
        let v = IncrementalAlterConfigsRequest::version(golden.version);
        let ours: IncrementalAlterConfigsRequest = read_all(golden.bytes, v).unwrap();
        for config in ours.resources.iter().flat_map(|resource| &resource.configs) {
            let value = config.value.0.as_ref().map_or("None".into(), |value| format!("{value:?}"));
            let text = format!("config_operation: {}, value: {value} }}", config.config_operation);
            assert!(golden.text.contains(&text), "{text} in {}", golden.text);
            seen += 1;
        }
    }
    assert!(seen > 6, "only {seen}");
}

#[test]
fn aborted_transactions_come_with_their_batches() {
    let mut versions = BTreeSet::new();
    for golden in goldens(ABORTED) {
        versions.insert(golden.version);
        holds::<FetchResponse>(&golden, FetchRequest::version(golden.version));
        let response: FetchResponse =
            read_all(golden.bytes.clone(), FetchRequest::version(golden.version)).unwrap();
        let sent = payload(&response_frame::<FetchRequest>(&response, golden.version, 9));
        let (_, response) = decode_response::<FetchRequest>(sent, golden.version).unwrap();

        let data = &response.responses[0].partitions[0];
        let aborted = data.aborted_transactions.as_ref().expect("there is a list");
        assert_eq!(*aborted, [AbortedTransaction { producer_id: 71, first_offset: 10 }]);
        let batches = Batches::new(data.records.clone().expect("there are records"));
        let batches: Vec<Batch> = batches.map(|batch| batch.expect("it is whole")).collect();
        let said: Vec<_> = (batches.iter())
            .map(|b| {
                (b.base_offset(), b.next_offset(), b.producer_id(), b.is_transactional(), b.is_control())
            })
            .collect();
        let expected = [
            (10, 12, 71, true, false),
            (12, 13, 72, true, false),
            (13, 14, 71, true, true),
            (14, 15, 72, true, true),
        ];
        assert_eq!(said, expected);
    }
    assert_eq!(Vec::from_iter(versions), [4, 11, 12, 18]);
}

#[test]
fn batches_of_kafka_are_read_and_those_a_producer_writes_are_written_alike() {
    let mut rebuilt = 0;
    for section in RECORDS.split("= ").skip(1) {
        let mut lines = section.lines();
        let (name, bytes) = (lines.next().expect("a name"), unhex(lines.next().expect("bytes")));
        let expected: Vec<&str> = lines.collect();
        let mut batches = Batches::new(bytes.clone());
        let mut said = Vec::new();
        for batch in batches.by_ref() {
            match describe(batch, &mut said) {
                Ok(open) => rebuilt += usize::from(rebuild(&open, &bytes)),
                Err(BatchError::OldMagic { offset, magic }) => {
                    said.push(format!("old format {magic} at {offset}"))
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert_eq!(said, expected, "{name}");
        assert_eq!(batches.remaining() > 0, name == "the last cut off", "{name}");
    }
    // Nulls, headers, times, a dozen, with a producer's identity.
    assert_eq!(rebuilt, 5);
}

/// A line of the batch and one of each record, as the program that made the file writes them.
fn describe(
    batch: Result<Batch, BatchError>,
    said: &mut Vec<String>,
) -> Result<(Batch, OpenBatch), BatchError> {
    let batch = batch?;
    let open = batch.clone().open(LIMIT)?;
    let flags =
        [(batch.is_control(), "c"), (batch.is_transactional(), "t"), (batch.is_log_append_time(), "a")];
    let flags = flags.map(|(set, flag)| if set { flag } else { "" }).concat();
    said.push(format!(
        "batch {}-{} count {} codec {} producer {}/{}/{} leader {} max {} flags {}",
        batch.base_offset(),
        batch.last_offset(),
        batch.record_count(),
        batch.codec(),
        batch.producer_id(),
        batch.producer_epoch(),
        batch.base_sequence(),
        batch.leader_epoch(),
        batch.max_timestamp(),
        if flags.is_empty() { "none" } else { &flags },
    ));
    for record in open.records() {
        let record = record?;
        let mut line =
            format!("{} {} {} {}", record.offset, record.timestamp, hex(record.key), hex(record.value));
        for (name, value) in record.headers {
            write!(line, " {}={}", hex(Some(name)), hex(value)).expect("a string takes all");
        }
        said.push(line);
    }
    Ok((batch, open))
}

/// Whether it is a batch as a producer sends it; then our own builder must make the same bytes of its records.
fn rebuild((batch, open): &(Batch, OpenBatch), all: &Bytes) -> bool {
    let by_producer = batch.base_offset() == 0 && batch.len() == all.len() && batch.codec() == 0;
    if !by_producer || batch.is_transactional() || batch.is_log_append_time() {
        return false;
    }
    let records: Vec<RecordRef<'_>> =
        open.records().map(|record| record.expect("it was read before")).collect();
    let mut builder = BatchBuilder::with_capacity(4096);
    for record in &records {
        let text = |name| std::str::from_utf8(name).expect("names are text");
        let headers: Vec<_> = record.headers.map(|(name, value)| Header { key: text(name), value }).collect();
        builder.append(record.timestamp, &Record { key: record.key, value: record.value, headers: &headers });
    }
    let mut sealed = builder.seal(Codec::None);
    sealed.stamp((batch.producer_id() >= 0).then(|| ProducerStamp {
        id: batch.producer_id(),
        epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
    }));
    assert_eq!(sealed.finish(), all);
    true
}

#[test]
fn error_codes_are_those_of_the_newest_kafka() {
    let mut next = -1;
    for line in ERRORS.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let code = ErrorCode(words[0].parse().unwrap());
        assert_eq!((code.0, code.name()), (next, words[1]));
        next += 1;
        if words[2] == "Refresh" {
            assert!(code.refresh_metadata(), "{code}");
        }
        assert!(code.retriable() || words[2] == "Fatal", "{code}");
    }
    assert_eq!(ErrorCode(next).name(), "UNKNOWN", "Kafka {next} is newer than the file");
}
