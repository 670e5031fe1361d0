//! What a script is given, and what it answers.

use std::sync::Arc;

use redis::{Script, ScriptInvocation, Value};

use super::scripts::{Keys, VERSION};
use crate::group::types::GroupError;

/// A script with its keys and arguments. These are one msgpack array; its length is known when it is complete.
pub(super) struct Call {
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<u8>,
    count: u32,
}

/// The head of a msgpack array of 32 bits length.
const ARRAY: u8 = 0xdd;

impl Call {
    /// One that begins with the prelude. `clock` is for simulations.
    pub(super) fn new<'a>(
        script: &'static Script,
        keys: &Keys,
        incarnation: &str,
        clock: Option<u64>,
        topics: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Self {
        let keys =
            keys.group.iter().cloned().chain(topics.clone().flat_map(|topic| keys.of_topic(topic))).collect();
        let mut call = Self { script, keys, args: vec![ARRAY, 0, 0, 0, 0], count: 0 };
        call.arg(VERSION).arg(incarnation).arg(clock.unwrap_or(0));
        put(rmp::encode::write_array_len(&mut call.args, topics.len() as u32));
        topics.for_each(|topic| topic.write(&mut call.args));
        call.count += 1;
        call
    }

    pub(super) fn arg(&mut self, arg: impl Arg) -> &mut Self {
        arg.write(&mut self.args);
        self.count += 1;
        self
    }

    pub(super) fn invocation(mut self) -> ScriptInvocation<'static> {
        self.args[1..5].copy_from_slice(&self.count.to_be_bytes());
        let mut invocation = self.script.prepare_invoke();
        self.keys.iter().for_each(|key| _ = invocation.key(key));
        invocation.arg(self.args);
        invocation
    }
}

/// The topics that a call names, each once.
pub(super) fn distinct<'a>(topics: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let mut distinct: Vec<Arc<str>> = Vec::new();
    for topic in topics {
        if distinct.last() != Some(topic) && !distinct.contains(topic) {
            distinct.push(Arc::clone(topic));
        }
    }
    distinct
}

/// What may be an argument.
pub(super) trait Arg {
    fn write(&self, out: &mut Vec<u8>);
}

fn put<T, E: std::fmt::Debug>(written: Result<T, E>) {
    written.expect("invariant: a Vec takes whatever is written");
}

impl Arg for &str {
    fn write(&self, out: &mut Vec<u8>) {
        put(rmp::encode::write_str(out, self));
    }
}

/// Bytes cross as a text: that is all Lua has.
impl Arg for &[u8] {
    fn write(&self, out: &mut Vec<u8>) {
        put(rmp::encode::write_str_len(out, self.len() as u32));
        out.extend_from_slice(self);
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Arg for $number {
            fn write(&self, out: &mut Vec<u8>) {
                // Whole numbers that a double holds: callers see to that.
                put(rmp::encode::write_sint(out, *self as i64));
            }
        })*
    };
}
numbers!(i32, u32, i64, u64, usize);

/// An answer, read from front to back. What is not as expected is an error, never a panic: the other side is not ours.
pub(super) struct Reply {
    values: std::vec::IntoIter<Value>,
}

/// An answer that is not as expected.
pub(super) fn strange(what: &str) -> GroupError {
    GroupError::Strange(format!("a script answered {what}"))
}

impl Reply {
    pub(super) fn new(value: Value) -> Result<Self, GroupError> {
        match value {
            Value::Array(values) => Ok(Self { values: values.into_iter() }),
            other => Err(strange(&format!("{other:?}"))),
        }
    }

    fn next(&mut self) -> Result<Value, GroupError> {
        self.values.next().ok_or_else(|| strange("too little"))
    }

    /// How many values are left.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn int(&mut self) -> Result<i64, GroupError> {
        match self.next()? {
            Value::Int(n) => Ok(n),
            other => Err(strange(&format!("{other:?} for a number"))),
        }
    }

    pub(super) fn whole<T: TryFrom<i64>>(&mut self) -> Result<T, GroupError> {
        let n = self.int()?;
        T::try_from(n).map_err(|_| strange(&format!("{n}, which is out of range")))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, GroupError> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            Value::Okay => Ok(b"OK".to_vec()),
            other => Err(strange(&format!("{other:?} for a text"))),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, GroupError> {
        String::from_utf8(self.bytes()?).map_err(|_| strange("a text that is no UTF-8"))
    }

    pub(super) fn list(&mut self) -> Result<Self, GroupError> {
        Self::new(self.next()?)
    }
}
