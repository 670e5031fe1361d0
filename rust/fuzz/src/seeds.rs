//! Valid inputs of the targets: what is to be changed must be whole at first, or nothing gets beyond the first length.

use bytes::Bytes;
use kafka_fast::config::{Codec, Compression};
use kafka_fast::wire::{BatchBuilder, Header, ProducerStamp, Record, Request, response_frame};

use crate::mutate::Random;
use crate::sample::{Gen, Sample};

/// Inputs of one target.
pub type Seeds = Vec<Vec<u8>>;

/// Bytes of a batch before its records.
const HEADER: usize = 61;

/// How many values of an answer are made in each version.
const VALUES: usize = 12;

/// Answers in every version, behind the byte that chooses it.
pub(crate) fn responses<R>(random: u64) -> Seeds
where
    R: Request,
    R::Response: Sample,
{
    let mut random = Random::new(random);
    let (oldest, newest) = R::VERSIONS;
    let mut seeds = Seeds::new();
    for version in oldest..=newest {
        for value in 0..VALUES {
            // Few bytes make a small value, and mostly zeros one of empty strings.
            let noise: Vec<u8> = (0..value * 50).map(|_| random.next() as u8).collect();
            let value = R::Response::sample(&mut Gen::new(&noise, version));
            let frame = response_frame::<R>(&value, version, 7);
            let mut seed = vec![(version - oldest) as u8];
            frame.segments().for_each(|segment| seed.extend_from_slice(segment));
            // Without the length, which the connection has taken off.
            seed.drain(1..5);
            seeds.push(seed);
        }
    }
    seeds
}

/// Streams of a few frames, behind the byte that chooses the pieces they come in.
pub fn frames(random: u64) -> Seeds {
    let mut random = Random::new(random);
    let stream = |_| {
        let mut stream = vec![random.next() as u8];
        for _ in 0..1 + random.below(4) {
            let length = match random.below(8) {
                0 => 130_000 + random.below(200_000),
                1 => 30_000 + random.below(10_000),
                _ => random.below(200),
            };
            stream.extend_from_slice(&(length as u32).to_be_bytes());
            stream.resize(stream.len() + length, 7);
        }
        stream
    };
    (0..40).map(stream).collect()
}

const OF_KAFKA: [&[u8]; 7] = [
    include_bytes!("../../core/tests/wire_golden/gzip.batch"),
    include_bytes!("../../core/tests/wire_golden/snappy.batch"),
    include_bytes!("../../core/tests/wire_golden/lz4.batch"),
    include_bytes!("../../core/tests/wire_golden/lz4-17.batch"),
    include_bytes!("../../core/tests/wire_golden/zstd.batch"),
    include_bytes!("../../core/tests/wire_golden/zstd-fast.batch"),
    include_bytes!("../../core/tests/wire_golden/zstd-22.batch"),
];

/// Batches in every codec, one by one and several behind each other; those of kafka-clients among them.
pub fn batches(random: u64) -> Seeds {
    let mut random = Random::new(random);
    let mut seeds: Seeds = OF_KAFKA.map(<[u8]>::to_vec).into();
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        for records in [1, 2, 9, 300] {
            seeds.push(batch(&mut random, codec.into(), records));
        }
    }
    for _ in 0..10 {
        let some: Vec<u8> = (0..3).flat_map(|_| seeds[random.below(seeds.len())].clone()).collect();
        seeds.push(some);
    }
    seeds
}

/// The compressed records of batches in one codec.
pub fn bodies<const CODEC: u8>(random: u64) -> Seeds {
    let is_of_it = |batch: &Vec<u8>| batch[22] & 7 == CODEC;
    let mut seeds: Seeds =
        batches(random).into_iter().filter(is_of_it).map(|batch| batch[HEADER..].to_vec()).collect();
    // Frames, members and blocks may follow each other.
    let twice: Seeds = seeds.iter().map(|body| body.repeat(2)).collect();
    seeds.extend(twice);
    seeds
}

fn batch(random: &mut Random, compression: Compression, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(1 << 16);
    for i in 0..records {
        let key = i.to_be_bytes();
        let value = vec![b'a' + (i % 7) as u8; random.below(60)];
        let header = [Header { key: "name", value: Some(&value) }, Header { key: "", value: None }];
        let record = match random.below(5) {
            0 => Record::keyed(&key, &value),
            1 => Record { key: None, value: Some(&value), headers: &header },
            2 => Record::tombstone("key"),
            _ => Record::value(&value),
        };
        builder.append(1_700_000_000_000 + random.below(100_000) as i64, &record);
    }
    let mut sealed = builder.seal(compression);
    sealed.stamp((records > 1).then_some(ProducerStamp { id: 7, epoch: 1, base_sequence: 30 }));
    sealed.finish().to_vec()
}

/// A batch with these compressed records, which are many by its header.
pub fn batch_around(codec: u8, body: &[u8]) -> Bytes {
    const MANY: i32 = 1 << 20;
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(body);
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[22] = codec;
    bytes[23..27].copy_from_slice(&(MANY - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&MANY.to_be_bytes());
    sum(&mut bytes);
    bytes.into()
}

/// Gives every whole batch of `bytes` the checksum it should have.
pub fn sum(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Some(length) = rest.get(8..12).and_then(|length| length.first_chunk()) {
        let length = 12_i64 + i64::from(i32::from_be_bytes(*length));
        let Some(length) = usize::try_from(length).ok().filter(|n| (HEADER..=rest.len()).contains(n)) else {
            return;
        };
        let (batch, after) = rest.split_at_mut(length);
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[21..]) as u32;
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        rest = after;
    }
}
