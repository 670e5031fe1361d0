//! Halving a batch that a broker found too large.

use bytes::Bytes;

use crate::wire::{BatchBuilder, BatchError, Batches, Header, Record};

/// Re-encodes the records of a finished batch of at least two records as two batches of about equal size, neither
/// empty. `plain_bytes` bounds what it may decompress to.
pub(super) fn halve(batch: Bytes, plain_bytes: usize) -> Result<(BatchBuilder, BatchBuilder), BatchError> {
    let malformed = |what| BatchError::Malformed { offset: 0, what };
    let batch = Batches::new(batch).next().ok_or_else(|| malformed("it is empty"))??;
    let count = batch.record_count();
    let open = batch.open(plain_bytes.max(1024))?;
    let mut first = BatchBuilder::with_capacity(plain_bytes / 2 + 1024);
    let mut second = BatchBuilder::with_capacity(plain_bytes / 2 + 1024);
    let mut position = 0;
    let mut index = 0;
    while let Some(record) = open.next_at(&mut position) {
        let record = record?;
        // The names came in as text; nobody else has had these bytes.
        let header = |(key, value)| Header { key: std::str::from_utf8(key).unwrap_or_default(), value };
        let headers = record.headers.map(header).collect::<Vec<_>>();
        let copy = Record { key: record.key, value: record.value, headers: &headers };
        // The first takes half of the bytes, at least one record, and leaves at least one.
        let to_first = index == 0
            || (second.is_empty()
                && index + 1 < count
                && first.len() + record_bytes(&copy) <= plain_bytes / 2);
        let target = if to_first { &mut first } else { &mut second };
        target.append(record.timestamp, &copy);
        index += 1;
    }
    if first.is_empty() || second.is_empty() {
        return Err(malformed("it cannot be split"));
    }
    Ok((first, second))
}

fn record_bytes(record: &Record<'_>) -> usize {
    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Codec;

    #[test]
    fn halves_keep_every_record_in_order() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy] {
            for count in 2..20_usize {
                let mut builder = BatchBuilder::with_capacity(100);
                let headers = [Header { key: "h", value: None }, Header { key: "h", value: Some(b"x") }];
                for i in 0..count {
                    let (key, value) = ([i as u8], vec![i as u8; i * i]);
                    let record = Record { key: Some(&key), value: Some(&value), headers: &headers };
                    builder.append(1000 + i as i64, &record);
                }
                let bytes = builder.len();
                let (first, second) = halve(builder.seal(codec).finish(), bytes).unwrap();
                assert!(first.len() < bytes && second.len() < bytes);
                let mut seen = 0;
                for half in [first, second] {
                    let batch = Batches::new(half.seal(Codec::None).finish()).next().unwrap().unwrap();
                    let open = batch.open(1 << 20).unwrap();
                    for record in open.records() {
                        let record = record.unwrap();
                        assert_eq!(record.timestamp, 1000 + seen as i64);
                        assert_eq!(record.key, Some(&[seen as u8][..]));
                        assert_eq!(record.value.unwrap().len(), seen * seen);
                        assert_eq!(record.headers.count(), 2);
                        seen += 1;
                    }
                }
                assert_eq!(seen, count);
            }
        }
    }
}
