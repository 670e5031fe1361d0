//! A record as a Rust program gets it: slices of the fetched frame, nothing copied.

use std::sync::Arc;

use bytes::Bytes;

use super::chunk::UnitInfo;
use crate::wire::records::{Headers, OpenBatch, RecordRef};

/// A record of a topic. Key and value are slices of the fetched frame, which lives as long as any of them: copy what
/// is kept for long.
#[derive(Debug, Clone)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset within the partition.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// 1 for the first delivery of its unit, more when a delivery before this one failed.
    pub attempt: u32,
    headers: Bytes,
    header_count: u32,
}

impl Message {
    /// The record's headers in their order, duplicates and null values kept; read from the wire form when asked for.
    pub fn headers(&self) -> Headers<'_> {
        Headers::from_raw(&self.headers, self.header_count)
    }

    /// `record` must borrow from `batch`.
    pub(super) fn new(info: &UnitInfo, batch: &OpenBatch, record: &RecordRef<'_>) -> Self {
        let body = batch.body();
        Self {
            topic: Arc::clone(&info.topic),
            partition: info.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|key| body.slice_ref(key)),
            value: record.value.map(|value| body.slice_ref(value)),
            attempt: info.attempt,
            headers: if record.headers.is_empty() {
                Bytes::new()
            } else {
                body.slice_ref(record.headers.raw())
            },
            header_count: record.headers.len() as u32,
        }
    }
}
