//! What a script is given, and what it answers.

use redis::{Script, ScriptInvocation, Value};

use super::scripts::{Keys, VERSION};
use crate::group::types::GroupError;

/// A script with its keys and arguments.
pub(super) struct Call {
    invocation: ScriptInvocation<'static>,
}

impl Call {
    /// One that begins with the prelude. `clock` is for simulations.
    pub(super) fn new<'a>(
        script: &'static Script,
        keys: &Keys,
        incarnation: &str,
        clock: Option<u64>,
        topics: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Self {
        let mut invocation = script.prepare_invoke();
        keys.group.iter().for_each(|key| _ = invocation.key(key));
        topics.clone().for_each(|topic| keys.of_topic(topic).iter().for_each(|key| _ = invocation.key(key)));
        let mut call = Self { invocation };
        call.arg(VERSION).arg(incarnation);
        match clock {
            Some(now) => call.arg(now),
            None => call.arg(""),
        };
        call.arg(topics.len());
        topics.for_each(|topic| _ = call.arg(topic));
        call
    }

    /// One without.
    pub(super) fn bare(script: &'static Script, keys: &[&str]) -> Self {
        let mut invocation = script.prepare_invoke();
        keys.iter().for_each(|key| _ = invocation.key(key));
        Self { invocation }
    }

    pub(super) fn arg(&mut self, arg: impl redis::ToRedisArgs) -> &mut Self {
        self.invocation.arg(arg);
        self
    }

    pub(super) const fn invocation(&self) -> &ScriptInvocation<'static> {
        &self.invocation
    }
}

/// An answer, read from front to back. What is not as expected is an error, never a panic: the other side is not ours.
pub(super) struct Reply {
    values: std::vec::IntoIter<Value>,
}

fn strange(what: &str) -> GroupError {
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
