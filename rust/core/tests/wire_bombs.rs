//! Small batches that would become gigabytes end in an error, and cost no more memory than the limit.
//!
//! One test in a process of its own: what counts is the peak of the whole process's resident memory, because zstd takes its
//! memory from C.

use std::io::Write;

use bytes::Bytes;
use kafka_fast::config::Codec;
use kafka_fast::wire::{BatchBuilder, BatchError, Batches, CodecError, Record};

const LIMIT: usize = 16 << 20;
/// What a bomb becomes.
const GIGABYTES: usize = 2 << 30;

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let before = resident("VmRSS:");
    for (what, codec, make) in bombs() {
        let bytes = batch(codec, &make());
        let length = bytes.len();
        let batch = Batches::new(bytes).next().expect("there is one").expect("it is whole");
        forget_peak();
        let error = batch.open(LIMIT).expect_err(what);
        // What the allocator has kept of earlier ones counts too: it cannot hide what is taken.
        let peak = resident("VmHWM:").saturating_sub(before + length);
        println!("{what}: {length} bytes took {} KB", peak >> 10);
        match &error {
            BatchError::Codec { cause: CodecError::TooLarge { limit: LIMIT }, .. } => {
                assert!(error.to_string().contains("raise decompress-limit"), "{what}: {error}");
            }
            // A claim that cannot be true is found out before the limit matters.
            BatchError::Codec { cause: CodecError::Broken { .. }, .. } => {
                assert!(what.contains("claims"), "{what}: {error}");
            }
            _ => panic!("{what}: {error}"),
        }
        // Output grows by doubling, so that for a moment both halves are there; zstd has a window besides, no larger than
        // what came out.
        assert!(peak < 3 * LIMIT + (4 << 20), "{what}: {} KB", peak >> 10);
    }
}

type Bomb = (&'static str, u8, fn() -> Vec<u8>);

/// What they are, the codec's number, and the bytes. No gigabytes are made to make them.
fn bombs() -> Vec<Bomb> {
    let mut bombs: Vec<Bomb> = vec![
        ("snappy that claims 4 GB", 2, || vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        // It shrinks to a twentieth at most, so that a frame of the network bounds it too.
        ("snappy, one block", 2, || zeros(Codec::Snappy, 40 << 20)),
        ("snappy, a xerial block again and again", 2, || xerial(&zeros(Codec::Snappy, 1 << 20), 40)),
        ("lz4, many frames", 3, || zeros(Codec::Lz4, 1 << 20).repeat(GIGABYTES >> 20)),
        ("lz4, blocks of 4 MB", 3, lz4),
        ("gzip, one member", 1, || gzip(GIGABYTES)),
        ("gzip, many members", 1, || gzip(1 << 20).repeat(GIGABYTES >> 20)),
    ];
    if Codec::Zstd.is_built_in() {
        let zstd: [Bomb; 5] = [
            ("zstd, many frames", 4, || zeros(Codec::Zstd, 1 << 20).repeat(GIGABYTES >> 20)),
            ("zstd, runs without a content size", 4, || zstd(None)),
            ("zstd, runs with a true content size", 4, || zstd(Some(GIGABYTES as u64))),
            ("zstd, runs with a content size that claims little", 4, || zstd(Some(1))),
            ("zstd, runs with a content size that claims all", 4, || zstd(Some(u64::MAX - 2))),
        ];
        bombs.extend(zstd);
    }
    bombs
}

/// What we write for so many zeros, without a batch's header.
fn zeros(codec: Codec, n: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(n + 100);
    builder.append(0, &Record::value(&vec![0; n]));
    builder.seal(codec).finish()[61..].to_vec()
}

fn gzip(n: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let chunk = vec![0; 1 << 20];
    for _ in 0..n >> 20 {
        encoder.write_all(&chunk).expect("a vector takes it");
    }
    encoder.finish().expect("a vector takes it")
}

fn xerial(block: &[u8], times: usize) -> Vec<u8> {
    let framed = [&(block.len() as u32).to_be_bytes()[..], block].concat();
    [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec(), framed.repeat(times)].concat()
}

/// A frame of one block, a literal zero that repeats, again and again.
fn lz4() -> Vec<u8> {
    // A literal, then a match one back: 19 + 255 for each byte that follows, and the five literals every block ends with.
    let mut block = vec![0x1f, 0, 1, 0];
    block.extend_from_slice(&[255; 16_000]);
    block.extend_from_slice(&[0, 0x50, 0, 0, 0, 0, 0]);
    let framed = [&(block.len() as u32).to_le_bytes()[..], &block].concat();
    let header = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    [&header[..], &framed.repeat(GIGABYTES >> 22), &[0; 4]].concat()
}

/// A frame of blocks that are a run of 128 KB each: 4 bytes.
fn zstd(content_size: Option<u64>) -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd];
    // The window is 128 MB, the most that is taken.
    let window = 17 << 3;
    match content_size {
        None => bytes.extend_from_slice(&[0, window]),
        Some(size) => {
            bytes.extend_from_slice(&[0xc0, window]);
            bytes.extend_from_slice(&size.to_le_bytes());
        }
    }
    let run = (128_u32 << 10) << 3 | 1 << 1;
    let block = [&run.to_le_bytes()[..3], &[0]].concat();
    bytes.extend_from_slice(&block.repeat(GIGABYTES >> 17));
    bytes.extend_from_slice(&[1, 0, 0]);
    bytes
}

/// A batch of one record by its header, with this behind it.
fn batch(codec: u8, body: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::with_capacity(100);
    builder.append(0, &Record::value("x"));
    let mut bytes = [&builder.seal(Codec::None).finish()[..61], body].concat();
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = codec;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// Bytes of this process's memory, by a line of its status.
fn resident(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|l| l.strip_prefix(line)).expect("it is there");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number of KB") << 10
}

/// The peak counts from now on.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may do that to itself");
}
