//! The native methods of the hot paths, called as the JVM calls them.
//!
//! The copy out of a Java array is a plain copy here, so that what the JVM does around it (about 9 ns a call) is not counted.

use std::ptr;

use jni::sys::{JNIEnv, jbyteArray, jclass, jint, jlong, jlongArray, jobject, jstring};

use crate::broker;
use crate::client::{CALM, records, topic};
use crate::count::Meter;
use crate::jvm::{Array, Jvm};

unsafe extern "system" {
    safe fn Java_kafkafast_NativeProducer_create(env: *mut JNIEnv, class: jclass, settings: jstring)
    -> jlong;
    safe fn Java_kafkafast_NativeProducer_connect(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        token: jlong,
    );
    safe fn Java_kafkafast_NativeProducer_lookupTopic(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        topic: jstring,
        token: jlong,
    );
    safe fn Java_kafkafast_NativeProducer_send(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        topic: jint,
        value: jbyteArray,
        length: jint,
    ) -> jint;
    safe fn Java_kafkafast_NativeProducer_sendRecord(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        topic: jint,
        partition: jint,
        timestamp: jlong,
        key: jbyteArray,
        key_length: jint,
        value: jbyteArray,
        value_length: jint,
        headers: jbyteArray,
        headers_length: jint,
        token: jlong,
    ) -> jint;
    safe fn Java_kafkafast_NativeProducer_flush(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        token: jlong,
        timeout: jlong,
    );
    safe fn Java_kafkafast_NativeProducer_close(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        token: jlong,
        timeout: jlong,
    );
    safe fn Java_kafkafast_NativeProducer_release(env: *mut JNIEnv, class: jclass, handle: jlong);
    safe fn Java_kafkafast_NativeConsumer_create(
        env: *mut JNIEnv,
        class: jclass,
        settings: jstring,
        group: jstring,
    ) -> jlong;
    safe fn Java_kafkafast_NativeConsumer_connect(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        topics: jstring,
        token: jlong,
    );
    safe fn Java_kafkafast_NativeConsumer_openSlot(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        token: jlong,
    ) -> jint;
    safe fn Java_kafkafast_NativeConsumer_control(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        slot: jint,
    ) -> jobject;
    safe fn Java_kafkafast_NativeConsumer_next(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        slot: jint,
        data: jbyteArray,
        index: jlongArray,
        max: jint,
    ) -> jint;
    safe fn Java_kafkafast_NativeConsumer_closeSlot(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        slot: jint,
    );
    safe fn Java_kafkafast_NativeConsumer_close(
        env: *mut JNIEnv,
        class: jclass,
        handle: jlong,
        token: jlong,
        wait: jlong,
    );
    safe fn Java_kafkafast_NativeConsumer_release(env: *mut JNIEnv, class: jclass, handle: jlong);
}

const CLASS: jclass = ptr::null_mut();
/// Longer than anything takes, in milliseconds.
const LONG: jlong = 600_000;
/// Tokens: of operations, and of whoever waits for records.
const OPERATION: jlong = 1;
const READER: jlong = 2;
/// What `Slot.java` begins with.
const DATA_BYTES: usize = 64 << 10;
const MAX_RECORDS: usize = 2048;

/// The settings as `KafkaConf.java` hands them over.
fn pairs(port: u16) -> String {
    let bootstrap = format!("bootstrap.servers\0127.0.0.1:{port}\0");
    CALM.iter().fold(bootstrap, |all, (name, value)| format!("{all}{name}\0{value}\0"))
}

/// How records are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Send {
    /// `sendMsg(topic, value)`.
    Value,
    /// A record with a key whose end is told.
    Record,
}

/// `send` and `sendRecord`.
pub(crate) fn send(meter: &mut Meter, port: u16, bytes: usize, how: Send) -> u64 {
    let mut jvm = Jvm::start();
    let env = jvm.env();
    let handle = Jvm::text(&pairs(port), |text| Java_kafkafast_NativeProducer_create(env, CLASS, text));
    Java_kafkafast_NativeProducer_connect(env, CLASS, handle, OPERATION);
    jvm.wait(OPERATION);
    Jvm::text(topic(bytes), |text| {
        Java_kafkafast_NativeProducer_lookupTopic(env, CLASS, handle, text, OPERATION);
    });
    let topic = jvm.wait(OPERATION) as jint;
    let value = Jvm::array(broker::payload(bytes, 1));
    let key = Jvm::array(b"a key".to_vec());
    let run = || {
        for token in 0..records(bytes) {
            let token = jlong::from(token) + 10;
            let code = match how {
                Send::Value => Java_kafkafast_NativeProducer_send(
                    env,
                    CLASS,
                    handle,
                    topic,
                    value.reference(),
                    value.length(),
                ),
                Send::Record => send_record(env, handle, topic, &key, &value, token),
            };
            assert_eq!(code, 0, "there is room");
        }
    };
    for counted in [false, true] {
        broker::hold(true);
        if counted {
            meter.measure(run);
        } else {
            run();
        }
        broker::hold(false);
        Java_kafkafast_NativeProducer_flush(env, CLASS, handle, OPERATION, LONG);
        jvm.wait(OPERATION);
    }
    Java_kafkafast_NativeProducer_close(env, CLASS, handle, OPERATION, LONG);
    jvm.wait(OPERATION);
    Java_kafkafast_NativeProducer_release(env, CLASS, handle);
    jvm.stop();
    records(bytes).into()
}

fn send_record(
    env: *mut JNIEnv,
    handle: jlong,
    topic: jint,
    key: &Array,
    value: &Array,
    token: jlong,
) -> jint {
    Java_kafkafast_NativeProducer_sendRecord(
        env,
        CLASS,
        handle,
        topic,
        -1,
        -1,
        key.reference(),
        key.length(),
        value.reference(),
        value.length(),
        ptr::null_mut(),
        -1,
        token,
    )
}

/// `next`: chunks of records, the CRC of the batches included.
pub(crate) fn next(meter: &mut Meter, port: u16, bytes: usize) -> u64 {
    let mut jvm = Jvm::start();
    let env = jvm.env();
    let handle = Jvm::text(&pairs(port), |settings| {
        Jvm::text(&format!("group\0native-{bytes}\0"), |group| {
            Java_kafkafast_NativeConsumer_create(env, CLASS, settings, group)
        })
    });
    Jvm::text(topic(bytes), |topics| {
        Java_kafkafast_NativeConsumer_connect(env, CLASS, handle, topics, OPERATION);
    });
    jvm.wait(OPERATION);
    let slot = Java_kafkafast_NativeConsumer_openSlot(env, CLASS, handle, READER);
    assert!(!Java_kafkafast_NativeConsumer_control(env, CLASS, handle, slot).is_null());
    let data = Jvm::array(vec![0; DATA_BYTES]);
    let index = Jvm::array(vec![0; (5 + MAX_RECORDS * 5) * size_of::<jlong>()]);
    let fill = || {
        let (data, index) = (data.reference(), index.reference());
        Java_kafkafast_NativeConsumer_next(env, CLASS, handle, slot, data, index, MAX_RECORDS as jint)
    };
    // Units begin small: counting begins when they have grown.
    let warm = u64::from(records(bytes)) * 2;
    let (mut done, mut counted) = (0, 0);
    while counted < u64::from(records(bytes)) {
        let n = if done < warm { fill() } else { meter.measure(fill) };
        let n = u64::try_from(n).expect("nothing fails, and every record fits");
        counted += if done < warm { 0 } else { n };
        done += n;
        if n == 0 {
            jvm.wait(READER);
        }
    }
    Java_kafkafast_NativeConsumer_closeSlot(env, CLASS, handle, slot);
    Java_kafkafast_NativeConsumer_close(env, CLASS, handle, OPERATION, LONG);
    jvm.wait(OPERATION);
    Java_kafkafast_NativeConsumer_release(env, CLASS, handle);
    jvm.stop();
    counted
}
