//! Record batches: what is written is read again, by us and by the crate `kafka-protocol`; what is broken is an error.

mod slow;

use bytes::{Bytes, BytesMut};
use kafka_fast::config::Codec;
use kafka_fast::wire::batch::{HEADER_LEN, recycle, restamp};
use kafka_fast::wire::{Batch, BatchBuilder, BatchError, Batches, Header, ProducerStamp, Record, RecordRef};
use kafka_protocol::records as kp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

const LIMIT: usize = 64 << 20;

/// A record that owns what a [`Record`] borrows.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    fn of(record: &RecordRef<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("names were text");
        let headers = record.headers.map(|(name, value)| (text(name), value.map(<[u8]>::to_vec))).collect();
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        Self { timestamp: record.timestamp, key, value, headers }
    }
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        // Compressible, with lengths of two and three bytes on the wire.
        2 => (0..300_usize).prop_map(|n| vec![b'x'; n]),
        1 => (8_000..9_000_usize).prop_map(|n| vec![b'y'; n]),
    ]
}

fn record() -> impl Strategy<Value = Owned> {
    let timestamp = prop_oneof![
        4 => 1_700_000_000_000..1_700_000_100_000_i64,
        1 => Just(0_i64),
        1 => -1_000..1_000_i64,
        1 => Just(i64::MAX / 4),
    ];
    // Few names, so that they repeat.
    let header = || ("[ab]{0,1}|trace-é", option::of(payload()));
    // The number of 64 has a byte more.
    let headers = prop_oneof![30 => vec(header(), 0..4), 1 => vec(header(), 62..67)];
    (timestamp, option::of(payload()), option::of(payload()), headers)
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers })
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    vec(record(), 1..80)
}

fn codec() -> impl Strategy<Value = Codec> {
    let all = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    prop::sample::select(all.into_iter().filter(|codec| codec.is_built_in()).collect::<Vec<_>>())
}

/// Those that the oracle has too. Its zstd would be the same library as ours.
fn common_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4])
}

fn stamp() -> impl Strategy<Value = Option<ProducerStamp>> {
    let stamp = (0..i64::MAX, 0..i16::MAX, 0..1_000_000_i32);
    option::of(stamp.prop_map(|(id, epoch, base_sequence)| ProducerStamp { id, epoch, base_sequence }))
}

/// Appends as the producer does: the buffer grows before a record, by the bound, and not within.
fn build(records: &[Owned], buffer: Vec<u8>) -> BatchBuilder {
    let mut builder = BatchBuilder::from_buffer(buffer);
    for (index, owned) in records.iter().enumerate() {
        let headers: Vec<_> =
            owned.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let record = Record { key: owned.key.as_deref(), value: owned.value.as_deref(), headers: &headers };
        let (before, bound) = (builder.len(), BatchBuilder::encoded_bound(&record));
        builder.grow_to(before + bound);
        let capacity = builder.capacity();
        assert_eq!(builder.append(owned.timestamp, &record), index as u32);
        assert!(builder.len() - before <= bound, "{} bytes, bound {bound}", builder.len() - before);
        assert_eq!(builder.capacity(), capacity, "append has grown the buffer");
    }
    assert_eq!(builder.count() as usize, records.len());
    builder
}

fn finish(builder: BatchBuilder, codec: Codec, stamp: Option<ProducerStamp>) -> Bytes {
    let plain = builder.len();
    let mut sealed = builder.seal(codec);
    sealed.stamp(stamp);
    let (length, count) = (sealed.len(), sealed.count());
    let bytes = sealed.finish();
    assert_eq!(bytes.len(), length);
    assert!(length <= plain && count > 0);
    bytes
}

fn only_batch(bytes: &Bytes) -> Batch {
    let mut batches = Batches::new(bytes.clone());
    let batch = batches.next().expect("there is one").expect("it is whole");
    assert!(batches.next().is_none());
    batch
}

/// Whatever the bytes are, reading them ends, and gives no more than they can hold.
fn read_to_the_end(bytes: &Bytes, limit: usize) -> (usize, Vec<BatchError>) {
    let (mut good, mut errors) = (0, Vec::new());
    let mut batches = 0;
    for batch in Batches::new(bytes.clone()) {
        batches += 1;
        assert!(batches <= bytes.len() / HEADER_LEN + 1);
        let open = match batch.and_then(|batch| {
            assert!(batch.base_offset() < batch.next_offset());
            batch.open(limit)
        }) {
            Ok(open) => open,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        assert!(open.body().len() <= limit.max(bytes.len()));
        let mut walked = Vec::new();
        for record in open.records() {
            match record {
                Ok(record) => {
                    assert!((open.base_offset()..open.next_offset()).contains(&record.offset));
                    assert_eq!(record.headers.count(), record.headers.len());
                    good += 1;
                    walked.push(record.offset);
                }
                Err(error) => errors.push(error),
            }
        }
        // The resumable walk sees the same records, and ends too.
        let (mut pos, mut again) = (0, Vec::new());
        while let Some(record) = open.next_at(&mut pos) {
            assert!(again.len() <= open.body().len());
            again.extend(record.map(|record| record.offset));
        }
        assert!(again.starts_with(&walked));
    }
    (good, errors)
}

/// Writes a number into the header and mends the checksum.
fn forge(bytes: &Bytes, changes: &[(usize, &[u8])]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (at, new) in changes {
        bytes[*at..at + new.len()].copy_from_slice(new);
    }
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_written_is_read(records in records(), codec in codec(), stamp in stamp()) {
        let bytes = finish(build(&records, Vec::new()), codec, stamp);
        let batch = only_batch(&bytes);
        prop_assert_eq!((batch.base_offset(), batch.record_count() as usize), (0, records.len()));
        prop_assert_eq!(batch.next_offset(), records.len() as i64);
        prop_assert_eq!(batch.max_timestamp(), records.iter().map(|r| r.timestamp).max().unwrap());
        let none = ProducerStamp { id: -1, epoch: -1, base_sequence: -1 };
        let expected = stamp.unwrap_or(none);
        prop_assert_eq!(batch.producer_id(), expected.id);
        prop_assert_eq!((batch.producer_epoch(), batch.base_sequence()), (expected.epoch, expected.base_sequence));
        prop_assert!(!batch.is_control() && !batch.is_transactional() && !batch.is_log_append_time());
        prop_assert_eq!((batch.leader_epoch(), batch.len()), (-1, bytes.len()));
        let open = batch.open(LIMIT).unwrap();
        let mut pos = 0;
        for (index, (record, expected)) in open.records().zip(&records).enumerate() {
            let record = record.unwrap();
            prop_assert_eq!(record.offset, index as i64);
            prop_assert_eq!(&Owned::of(&record), expected);
            let at = open.next_at(&mut pos).unwrap().unwrap();
            prop_assert_eq!(&Owned::of(&at), expected);
        }
        prop_assert_eq!(open.records().count(), records.len());
        prop_assert!(open.next_at(&mut pos).is_none());
    }

    #[test]
    fn a_used_buffer_makes_the_same_batch(records in records(), codec in codec(), stamp in stamp(), junk in vec(any::<u8>(), 0..5000)) {
        let fresh = finish(build(&records, Vec::new()), codec, stamp);
        let again = finish(build(&records, junk), codec, stamp);
        prop_assert_eq!(&fresh, &again);
        let buffer = recycle(again).expect("nobody else has it");
        prop_assert_eq!(&fresh, &finish(build(&records, buffer), codec, stamp));

        let (sealed, spare) = build(&records, Vec::new()).seal_sparing(codec);
        prop_assert_eq!(spare.is_some(), sealed.len() < build(&records, Vec::new()).len());
        let other = ProducerStamp { id: 1, epoch: 2, base_sequence: 3 };
        let stamped = finish(build(&records, spare.unwrap_or_default()), codec, Some(other));
        prop_assert_eq!(&restamp(fresh.clone(), Some(other)), &stamped);
        prop_assert_eq!(restamp(stamped, stamp), fresh);
    }

    #[test]
    fn the_oracle_reads_what_we_write(records in records(), codec in common_codec(), stamp in stamp()) {
        let mut bytes = finish(build(&records, Vec::new()), codec, stamp);
        let set = kp::RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!((set.version, bytes.len()), (2, 0));
        prop_assert_eq!(set.records.len(), records.len());
        for (index, (theirs, ours)) in set.records.iter().zip(&records).enumerate() {
            prop_assert_eq!((theirs.offset, theirs.timestamp), (index as i64, ours.timestamp));
            prop_assert_eq!(theirs.key.as_deref(), ours.key.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.value.as_deref());
            prop_assert_eq!(theirs.producer_id, stamp.map_or(-1, |s| s.id));
            prop_assert_eq!(theirs.producer_epoch, stamp.map_or(-1, |s| s.epoch));
            prop_assert_eq!(theirs.sequence, stamp.map_or(-1, |s| s.base_sequence) + index as i32);
            // It keeps the last of headers of one name, which KIP-82 allows to repeat.
            for (name, value) in &theirs.headers {
                let last = ours.headers.iter().rfind(|(key, _)| key == &**name).unwrap();
                prop_assert_eq!(value.as_deref(), last.1.as_deref());
            }
            prop_assert!(ours.headers.iter().all(|(key, _)| theirs.headers.keys().any(|name| &**name == key)));
        }
    }

    #[test]
    fn we_read_what_the_oracle_writes(
        records in records(),
        codec in common_codec(),
        base in 0..1_i64 << 40,
        gaps in vec(1..50_i64, 80),
        flags in any::<(bool, bool)>(),
    ) {
        // As compaction leaves them: with gaps between the offsets.
        let mut offset = base;
        let theirs: Vec<_> = records.iter().zip(&gaps).map(|(ours, gap)| {
            offset += gap;
            kp::Record {
                transactional: flags.0,
                control: flags.1,
                delete_horizon: false,
                partition_leader_epoch: 7,
                producer_id: 9,
                producer_epoch: 3,
                timestamp_type: kp::TimestampType::Creation,
                offset,
                sequence: (offset - base) as i32,
                timestamp: ours.timestamp,
                key: ours.key.clone().map(Into::into),
                value: ours.value.clone().map(Into::into),
                headers: ours.headers.iter().cloned().map(|(k, v)| (k.into(), v.map(Into::into))).collect(),
            }
        }).collect();
        let mut bytes = BytesMut::new();
        let compression = match codec {
            Codec::Gzip => kp::Compression::Gzip,
            Codec::Snappy => kp::Compression::Snappy,
            Codec::Lz4 => kp::Compression::Lz4,
            Codec::None | Codec::Zstd => kp::Compression::None,
        };
        let options = kp::RecordEncodeOptions { version: 2, compression };
        kp::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        let batch = only_batch(&bytes.freeze());
        prop_assert_eq!((batch.is_transactional(), batch.is_control()), flags);
        prop_assert_eq!((batch.leader_epoch(), batch.codec()), (7, compression as i16));
        prop_assert_eq!((batch.producer_id(), batch.next_offset()), (9, offset + 1));
        let open = batch.open(LIMIT).unwrap();
        prop_assert_eq!(open.records().count(), theirs.len());
        for (record, theirs) in open.records().zip(&theirs) {
            let record = record.unwrap();
            prop_assert_eq!((record.offset, record.timestamp), (theirs.offset, theirs.timestamp));
            prop_assert_eq!((record.key, record.value), (theirs.key.as_deref(), theirs.value.as_deref()));
            let headers: Vec<_> = theirs.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
            prop_assert_eq!(record.headers.collect::<Vec<_>>(), headers);
        }
    }

    #[test]
    fn broken_batches_are_errors_and_never_panics(
        records in vec(record(), 1..20),
        codec in codec(),
        changes in vec((any::<Index>(), any::<u8>()), 1..8),
        fields in vec((0..HEADER_LEN, prop_oneof![Just(0_u8), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()]), 0..6),
        cut in any::<Index>(),
    ) {
        let bytes = finish(build(&records, Vec::new()), codec, None);
        let mut body = bytes.to_vec();
        for (at, byte) in &changes {
            body[at.index(bytes.len())] = *byte;
        }
        let changed = Bytes::from(body);
        read_to_the_end(&changed, 1 << 20);
        // With a checksum that fits, what is inside is not stopped at the door.
        read_to_the_end(&forge(&changed, &[]), 1 << 20);
        let fields: Vec<_> = fields.iter().map(|(at, byte)| (*at, std::slice::from_ref(byte))).collect();
        read_to_the_end(&forge(&bytes, &fields), 1 << 20);
        // Cut off anywhere, a batch is none.
        prop_assert_eq!(read_to_the_end(&bytes.slice(..cut.index(bytes.len())), LIMIT), (0, vec![]));
        // Behind a whole one, the whole one is read.
        let two = [&bytes[..], &bytes[..cut.index(bytes.len())]].concat();
        prop_assert_eq!(read_to_the_end(&two.into(), LIMIT), (records.len(), vec![]));
    }

    #[test]
    fn a_changed_byte_behind_the_checksum_is_found(records in vec(record(), 1..20), codec in codec(), at in any::<Index>(), flip in 1..=255_u8) {
        let bytes = finish(build(&records, Vec::new()), codec, None);
        let mut changed = bytes.to_vec();
        let at = 21 + at.index(bytes.len() - 21);
        changed[at] ^= flip;
        let (good, errors) = read_to_the_end(&changed.into(), LIMIT);
        prop_assert_eq!((good, errors.len()), (0, 1));
    }
}

fn small_batch() -> Bytes {
    let mut builder = BatchBuilder::with_capacity(200);
    builder.append(1_000, &Record::keyed("k", "value"));
    builder.append(900, &Record::tombstone("k"));
    builder.seal(Codec::None).finish()
}

fn first_error(bytes: &Bytes) -> BatchError {
    let (_, errors) = read_to_the_end(bytes, LIMIT);
    errors.into_iter().next().expect("there is an error")
}

#[test]
fn the_bytes_are_those_of_the_documentation() {
    let bytes = small_batch();
    assert_eq!(bytes[..8], [0; 8]);
    assert_eq!(bytes[8..12], (bytes.len() as u32 - 12).to_be_bytes());
    assert_eq!(bytes[12..17], [0xff, 0xff, 0xff, 0xff, 2]);
    assert_eq!(bytes[21..27], [0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[27..35], 1_000_i64.to_be_bytes());
    assert_eq!(bytes[35..43], 1_000_i64.to_be_bytes());
    assert_eq!(bytes[43..57], [0xff; 14]);
    assert_eq!(bytes[57..61], [0, 0, 0, 2]);
    // Length 12: attributes, time, offset, key, value, no headers. Then -100 ms (zigzag 199), offset 1, a null value.
    assert_eq!(bytes[61..74], *b"\x18\x00\x00\x00\x02k\x0avalue\x00");
    assert_eq!(bytes[74..], *b"\x10\x00\xc7\x01\x02\x02k\x01\x00");
}

#[test]
fn several_batches_follow_each_other() {
    let one = small_batch();
    let two = forge(&one, &[(0, &2_i64.to_be_bytes())]);
    let all = Bytes::from([&one[..], &two[..], &one[..40]].concat());
    let offsets: Vec<_> = Batches::new(all.clone()).map(|batch| batch.unwrap().next_offset()).collect();
    assert_eq!(offsets, [2, 4]);
    let mut batches = Batches::new(all);
    assert_eq!(batches.by_ref().count(), 2);
    assert_eq!(batches.remaining(), 40);
}

#[test]
fn old_formats_are_named() {
    for magic in [0_u8, 1] {
        let error = first_error(&forge(&small_batch(), &[(16, &[magic])]));
        assert_eq!(error, BatchError::OldMagic { offset: 0, magic: magic as i8 });
        assert!(error.to_string().contains(&format!("format {magic}")), "{error}");
    }
}

#[test]
fn a_codec_that_is_not_there_is_named() {
    for attribute in [5, 6, 7] {
        let error = first_error(&forge(&small_batch(), &[(22, &[attribute])])).to_string();
        assert!(
            error.contains(&format!("codec number {attribute}")) && error.contains("offset 0"),
            "{error}"
        );
    }
}

#[test]
fn the_brokers_clock_overrides_the_records() {
    // Attribute bit 3: all records have the time of the broker, which is the maximum.
    let bytes = forge(&small_batch(), &[(22, &[8]), (35, &5_000_i64.to_be_bytes())]);
    let batch = only_batch(&bytes);
    assert!(batch.is_log_append_time());
    let open = batch.open(LIMIT).unwrap();
    assert!(open.records().all(|record| record.unwrap().timestamp == 5_000));
}

#[test]
fn control_batches_are_flagged() {
    let batch = only_batch(&forge(&small_batch(), &[(22, &[0x30])]));
    assert!(batch.is_control() && batch.is_transactional());
    assert!(batch.open(LIMIT).unwrap().is_control());
}

#[test]
fn a_batch_that_compaction_emptied_moves_the_reader_on() {
    for attribute in [0, 1, 2, 3, 4] {
        let bytes = small_batch().slice(..HEADER_LEN);
        let length = (HEADER_LEN - 12) as u32;
        let bytes = forge(
            &bytes,
            &[(8, &length.to_be_bytes()), (22, &[attribute]), (23, &9_u32.to_be_bytes()), (57, &[0; 4])],
        );
        let batch = only_batch(&bytes);
        assert_eq!((batch.record_count(), batch.next_offset()), (0, 10));
        let open = batch.open(LIMIT).unwrap();
        assert_eq!((open.records().count(), open.next_at(&mut 0).is_none()), (0, true));
    }
}

#[test]
fn fields_that_contradict_each_other_are_errors() {
    let batch = small_batch();
    let forged: [(&str, Bytes); 8] = [
        ("more records than offsets", forge(&batch, &[(57, &3_u32.to_be_bytes())])),
        ("a negative count", forge(&batch, &[(57, &(-1_i32).to_be_bytes())])),
        ("a negative last offset", forge(&batch, &[(23, &(-1_i32).to_be_bytes())])),
        ("an offset at the end of all", forge(&batch, &[(0, &i64::MAX.to_be_bytes())])),
        ("a negative offset", forge(&batch, &[(0, &(-1_i64).to_be_bytes())])),
        ("a negative length", forge(&batch, &[(8, &(-5_i32).to_be_bytes())])),
        ("a length shorter than a header", forge(&batch, &[(8, &48_u32.to_be_bytes())])),
        (
            "a record outside the batch's offsets",
            forge(&batch, &[(23, &[0; 4]), (57, &1_u32.to_be_bytes()), (65, &[4])]),
        ),
    ];
    for (what, bytes) in forged {
        assert!(matches!(first_error(&bytes), BatchError::Malformed { .. }), "{what}");
    }
    // The number of records is that of the header, no more and no less.
    for (count, what) in [(1_u32, "more records"), (3, "fewer records")] {
        let bytes = forge(&batch, &[(23, &9_u32.to_be_bytes()), (57, &count.to_be_bytes())]);
        assert!(first_error(&bytes).to_string().contains(what));
    }
}

#[test]
fn header_lists_that_lie_are_errors() {
    let mut builder = BatchBuilder::with_capacity(200);
    let headers = [Header { key: "a", value: None }, Header { key: "a", value: Some(b"") }];
    builder.append(0, &Record { key: None, value: None, headers: &headers });
    let bytes = builder.seal(Codec::None).finish();
    let (good, errors) = read_to_the_end(&bytes, LIMIT);
    assert_eq!((good, errors), (1, vec![]));
    // Length, attributes, time, offset, null, null; then the count (2) at byte 67.
    assert_eq!(bytes[67..], *b"\x04\x02a\x01\x02a\x00");
    for (what, at, byte) in [
        ("more headers than bytes", 67, 0x7e_u8),
        ("fewer headers than bytes", 67, 2),
        ("none, and bytes behind", 67, 0),
        ("a negative count", 67, 1),
        ("a name that is null", 68, 1),
        ("a value behind the end", 73, 2),
    ] {
        let (good, errors) = read_to_the_end(&forge(&bytes, &[(at, &[byte])]), LIMIT);
        assert_eq!((good, errors.len()), (0, 1), "{what}");
    }
}

#[test]
fn a_compressed_batch_holds_no_more_memory_than_it_has_bytes() {
    let mut builder = BatchBuilder::with_capacity(1 << 20);
    for i in 0..5_000 {
        builder.append(i, &Record::value("the same again and again"));
    }
    let (sealed, spare) = builder.seal_sparing(Codec::Snappy);
    let batch = sealed.finish();
    let bytes = batch.len();
    assert!(bytes < 100_000);
    let buffer = recycle(batch).unwrap();
    assert_eq!((buffer.len(), buffer.capacity()), (0, bytes), "empty, so that nothing is moved");
    assert!(spare.unwrap().capacity() >= 1 << 20, "the plain buffer is for the next batch");
}

#[test]
#[should_panic(expected = "an empty batch cannot be sealed")]
fn an_empty_batch_cannot_be_sealed() {
    BatchBuilder::with_capacity(100).seal(Codec::None);
}

/// The short way to write a record ends where one of its numbers needs a third byte.
#[test]
fn records_at_the_edges_of_two_byte_numbers_are_read_back() {
    let base = 1_700_000_000_000;
    let lengths = [0, 1, 58, 59, 60, 61, 62, 63, 64, 65, 7_990, 7_999, 8_000, 8_190, 8_191, 8_192, 9_000];
    let deltas = [0, 1, 63, 64, -64, -65, 8_190, 8_191, 8_192, -8_192, -8_193];
    let mut wanted = Vec::new();
    let mut builder = BatchBuilder::with_capacity(1 << 20);
    let mut append = |timestamp: i64, value: Vec<u8>| {
        builder.append(timestamp, &Record::value(&value));
        wanted.push((timestamp, value));
    };
    append(base, Vec::new());
    for (i, length) in lengths.iter().enumerate() {
        for delta in deltas {
            append(base + delta, vec![i as u8; *length]);
        }
    }
    for i in 0..8_300 {
        append(base + 7, vec![i as u8; 60]);
    }
    let bytes = builder.seal(Codec::None).finish();
    let batch = Batches::new(bytes).next().unwrap().unwrap().open(1 << 30).unwrap();
    let read: Vec<_> = batch
        .records()
        .map(|record| record.map(|r| (r.offset, r.timestamp, r.value.unwrap_or_default().to_vec())).unwrap())
        .collect();
    assert_eq!(read.len(), wanted.len());
    for (i, ((offset, timestamp, value), (sent, bytes))) in read.iter().zip(&wanted).enumerate() {
        assert_eq!((*offset, timestamp, value), (i as i64, sent, bytes), "record {i}");
    }
}
