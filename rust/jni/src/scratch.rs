//! Where bytes of Java arrays are copied before any lock is taken.
//!
//! Copying them under a lock lets the garbage collector stop the holder: other threads waited up to 140 ms for it
//! (measured), 16 ms with the copy first. Small ones go to the stack, others to a buffer the thread keeps.

use std::cell::Cell;
use std::mem::MaybeUninit;

use jni::sys::{jbyteArray, jint};

use crate::env::{Env, Thrown};

/// Bytes copied to the stack.
const ON_STACK: usize = 2 << 10;
/// The largest buffer a thread keeps: threads may be many.
const KEPT: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `body` with the bytes of one array of `length` bytes.
#[inline]
pub(crate) fn with_one<R>(
    env: &Env,
    array: jbyteArray,
    length: jint,
    body: impl FnOnce(&[u8]) -> Result<R, Thrown>,
) -> Result<R, Thrown> {
    let length = usize::try_from(length).unwrap_or(0);
    if length <= ON_STACK {
        let mut stack = [const { MaybeUninit::uninit() }; ON_STACK];
        body(env.copy_bytes(array, &mut stack[..length])?)
    } else {
        with_buffer(length, |buffer| body(env.copy_bytes(array, buffer)?))
    }
}

/// Calls `body` with the bytes of several arrays; a negative length stands for a null array and gives `None`.
pub(crate) fn with_all<const N: usize, R>(
    env: &Env,
    arrays: [(jbyteArray, jint); N],
    body: impl FnOnce([Option<&[u8]>; N]) -> Result<R, Thrown>,
) -> Result<R, Thrown> {
    let length_of = |length: jint| usize::try_from(length).unwrap_or(0);
    let total = arrays.iter().map(|(_, length)| length_of(*length)).sum();
    with_buffer(total, |mut buffer| {
        let mut copied = [None; N];
        for (slot, (array, length)) in copied.iter_mut().zip(arrays) {
            if length >= 0 {
                let (mine, rest) = buffer.split_at_mut(length_of(length));
                buffer = rest;
                *slot = Some(env.copy_bytes(array, mine)?);
            }
        }
        body(copied)
    })
}

/// Lends the thread's buffer. It is taken out of its cell meanwhile, so that nested use gets another one and a panic
/// loses no more than it.
fn with_buffer<R>(
    length: usize,
    body: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<R, Thrown>,
) -> Result<R, Thrown> {
    let mut buffer = BUFFER.take();
    buffer.reserve(length);
    let result = body(&mut buffer.spare_capacity_mut()[..length]);
    if buffer.capacity() <= KEPT {
        BUFFER.set(buffer);
    }
    result
}
