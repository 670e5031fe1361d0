//! The JNI boundary of kafka-fast: handles, exceptions, events; no logic.
//!
//! One module per Java class with native methods: [`conf`] (`NativeConf`), [`producer`] (`NativeProducer`),
//! [`consumer`] (`NativeConsumer`), [`service`] (`NativeService`). Rules of the house:
//!
//! * Native never blocks a Java thread. What cannot be done at once is answered by a code; Java parks and is unparked by
//!   the service thread (see [`service`]). So interrupts, virtual threads and close are one mechanism. The one exception is
//!   a reader that has just had records: it may wait for the next ones here, two milliseconds at most ([`waiter`]).
//! * Threads of the runtime never attach to the JVM and never call up.
//! * Every entry point runs inside [`guard::guard`]: a panic becomes a Java exception.
//! * A handle is an `Arc` of a small shell. `close` is a state of the shell; its memory goes when the Java object is
//!   unreachable, so use after close is an answer and never a crash.
//! * Bytes are copied out of Java arrays before any lock of ours is taken.

mod chunk;
mod conf;
mod consumer;
mod env;
mod guard;
mod logs;
mod producer;
mod runtime;
mod scratch;
mod service;
mod waiter;
