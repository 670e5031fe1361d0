//! The fast way to read records, held against one that reads them byte by byte as the documentation has them.

use kafka_fast::wire::BatchError;
use kafka_fast::wire::batch::HEADER_LEN;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{LIMIT, forge, only_batch, small_batch};

/// Offset and timestamp as the record has them, key, value, and headers.
type Slow = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut z = 0_u128;
    for i in 0..10 {
        let byte = u128::from(*bytes.split_off_first()?);
        z |= (byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            let z = u64::try_from(z).ok()?;
            return Some((z >> 1) as i64 ^ -((z & 1) as i64));
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: i64) -> Option<&'a [u8]> {
    bytes.split_off(..usize::try_from(length).ok()?)
}

fn nullable(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    match varint(bytes)? {
        ..0 => Some(None),
        length => Some(Some(take(bytes, length)?.to_vec())),
    }
}

/// Its offset delta, which may be `last` at most, its timestamp delta, key, value, and headers.
fn slow(bytes: &mut &[u8], last: i64) -> Option<Slow> {
    let length = varint(bytes)?;
    let mut fields = take(bytes, length)?;
    take(&mut fields, 1)?;
    let (timestamp, offset) = (varint(&mut fields)?, varint(&mut fields)?);
    let (key, value) = (nullable(&mut fields)?, nullable(&mut fields)?);
    let count = u32::try_from(varint(&mut fields)?).ok()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let length = varint(&mut fields)?;
        headers.push((take(&mut fields, length)?.to_vec(), nullable(&mut fields)?));
    }
    let fits = fields.is_empty() && (0..=last).contains(&offset);
    fits.then_some((offset, timestamp, key, value, headers))
}

/// A number as a writer with more bytes than it needs would write it.
fn wide(v: i64, more: usize) -> Vec<u8> {
    let mut z = ((v << 1) ^ (v >> 63)) as u64;
    let mut bytes = Vec::new();
    while z >= 0x80 {
        bytes.push(z as u8 | 0x80);
        z >>= 7;
    }
    bytes.push(z as u8);
    for _ in 0..more {
        *bytes.last_mut().expect("there is one") |= 0x80;
        bytes.push(0);
    }
    bytes
}

/// Numbers at the edges of one, two and three bytes, seldom anything.
fn edge() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => prop::sample::select(vec![0, 1, 2, 63, 64, 65, 8_190, 8_191, 8_192, 8_193]),
        2 => prop::sample::select(vec![-1, -2, -64, -65, -8_192, -8_193]),
        1 => any::<i64>(),
    ]
}

/// A record by hand: right, or with a number that is not what it should be.
fn by_hand() -> impl Strategy<Value = Vec<u8>> {
    let more = || prop_oneof![8 => Just(0_usize), 2 => 1..3_usize, 1 => 3..10_usize];
    let length = prop_oneof![4 => 0..70_usize, 1 => 8_180..8_200_usize];
    let wrong = || prop_oneof![12 => Just(0_i64), 1 => -2..=2_i64, 1 => edge()];
    let key = prop_oneof![8 => Just(-1_i64), 1 => Just(0), 1 => 1..5_i64, 1 => edge()];
    let headers = prop_oneof![8 => Just(vec![0_u8]), 1 => Just(vec![0x80, 0]), 1 => vec(any::<u8>(), 0..4)];
    let numbers = (edge(), edge(), key, vec(more(), 5), any::<u8>());
    (numbers, length, headers, wrong(), wrong()).prop_map(
        |((timestamp, offset, key, more, attributes), length, headers, wrong_value, wrong_record)| {
            let fields = [
                vec![attributes],
                wide(timestamp, more[0]),
                wide(offset, more[1]),
                wide(key, more[2]),
                vec![b'k'; key.clamp(0, 8_200) as usize],
                wide((length as i64).wrapping_add(wrong_value), more[3]),
                vec![0; length],
                headers,
            ]
            .concat();
            [wide((fields.len() as i64).wrapping_add(wrong_record), more[4]), fields].concat()
        },
    )
}

/// The walk and the slow reader see the same records of `body`, and give up at the same one.
fn both_agree(body: &[u8], last: i32) -> usize {
    let head = small_batch().slice(..HEADER_LEN);
    let length = (HEADER_LEN - 12 + body.len()) as u32;
    let bytes = forge(
        &[&head[..], body].concat().into(),
        &[(8, &length.to_be_bytes()), (23, &last.to_be_bytes()), (57, &[0; 4])],
    );
    let open = only_batch(&bytes).open(LIMIT).unwrap();
    let (mut rest, mut pos, mut records) = (body, 0, 0);
    while !rest.is_empty() {
        let theirs = slow(&mut rest, last.into());
        let ours = open.next_at(&mut pos).expect("there are bytes left");
        let Some((offset, timestamp, key, value, headers)) = theirs else {
            assert!(matches!(ours, Err(BatchError::Malformed { .. })), "{ours:?}");
            assert_eq!(pos, body.len());
            break;
        };
        let ours = ours.unwrap();
        assert_eq!((ours.offset, ours.timestamp), (offset, timestamp.wrapping_add(1_000)));
        assert_eq!((ours.key, ours.value), (key.as_deref(), value.as_deref()));
        let named = ours.headers.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
        assert_eq!(named.collect::<Vec<_>>(), headers);
        assert_eq!(pos, body.len() - rest.len());
        records += 1;
    }
    assert!(open.next_at(&mut pos).is_none());
    records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_fast_way_to_read_a_record_sees_what_a_slow_one_sees(
        records in vec(by_hand(), 1..6),
        last in prop_oneof![Just(0), Just(64), Just(8_191), Just(8_192), Just(i32::MAX - 1)],
        changes in vec((any::<Index>(), any::<u8>()), 0..3),
        cut in option::weighted(0.2, any::<Index>()),
    ) {
        let mut body = records.concat();
        both_agree(&body, last);
        for (at, byte) in changes {
            // At the beginning of a record, where the numbers are.
            let at = at.index(body.len().min(20));
            body[at] = byte;
        }
        body.truncate(cut.map_or(body.len(), |cut| cut.index(body.len())));
        both_agree(&body, last);
    }

    #[test]
    fn any_bytes_are_the_same_records_to_both(
        body in vec(prop_oneof![Just(0_u8), Just(1), Just(2), 3..40_u8, Just(0x80), any::<u8>()], 0..60),
        last in 0..70_i32,
    ) {
        both_agree(&body, last);
    }
}
