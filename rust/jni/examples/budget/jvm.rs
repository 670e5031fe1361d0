//! As much of a JVM as the native methods need: a table of functions, arrays, strings, and the service thread's calls.

use std::ffi::c_void;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;

use jni::sys::{
    JNIEnv, JNINativeInterface_, jarray, jboolean, jbyte, jbyteArray, jchar, jclass, jint, jlong, jlongArray,
    jobject, jsize, jstring,
};

// Links the library that has the native methods.
use kafkafast as _;

unsafe extern "system" {
    pub(crate) safe fn Java_kafkafast_NativeService_start(env: *mut JNIEnv, class: jclass);
    pub(crate) safe fn Java_kafkafast_NativeService_stop(env: *mut JNIEnv, class: jclass);
    pub(crate) safe fn Java_kafkafast_NativeService_poll(
        env: *mut JNIEnv,
        class: jclass,
        into: jbyteArray,
        wait: jint,
    ) -> jint;
}

/// A Java array of bytes; its address is the reference.
pub(crate) struct Array(Vec<u8>);

/// A Java string; its address is the reference.
struct Text(Vec<u16>);

extern "system" fn get_array_length(_: *mut JNIEnv, array: jarray) -> jsize {
    // SAFETY: the only arrays there are come from `Jvm::array`, and live longer than the call.
    let array = unsafe { &*array.cast::<Array>() };
    array.0.len() as jsize
}

extern "system" fn get_byte_array_region(
    _: *mut JNIEnv,
    array: jbyteArray,
    start: jsize,
    length: jsize,
    into: *mut jbyte,
) {
    // SAFETY: as above.
    let array = unsafe { &*array.cast::<Array>() };
    let bytes = &array.0[start as usize..][..length as usize];
    // SAFETY: JNI's contract: `into` has room for `length` bytes, and is no part of an array.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), into.cast(), bytes.len()) };
    // Not a tail call: the stack has to tell whose copy this is.
    black_box(());
}

extern "system" fn set_byte_array_region(
    _: *mut JNIEnv,
    array: jbyteArray,
    start: jsize,
    length: jsize,
    from: *const jbyte,
) {
    // SAFETY: as above; nobody else uses the array during the call.
    let array = unsafe { &mut *array.cast::<Array>() };
    let bytes = &mut array.0[start as usize..][..length as usize];
    // SAFETY: JNI's contract: `from` has `length` bytes, and is no part of an array.
    let from = unsafe { std::slice::from_raw_parts(from.cast(), bytes.len()) };
    // A large copy is one instruction that repeats itself, of which callgrind counts each turn.
    for (into, from) in bytes.chunks_mut(1 << 10).zip(from.chunks(1 << 10)) {
        into.copy_from_slice(from);
    }
}

/// An array of longs is one of bytes eight times as long.
extern "system" fn set_long_array_region(
    env: *mut JNIEnv,
    array: jlongArray,
    start: jsize,
    length: jsize,
    from: *const jlong,
) {
    set_byte_array_region(env, array, start * 8, length * 8, from.cast());
}

extern "system" fn get_string_length(_: *mut JNIEnv, string: jstring) -> jsize {
    // SAFETY: the only strings there are come from `Jvm::text`, and live longer than the call.
    let text = unsafe { &*string.cast::<Text>() };
    text.0.len() as jsize
}

extern "system" fn get_string_region(_: *mut JNIEnv, string: jstring, at: jsize, n: jsize, into: *mut jchar) {
    // SAFETY: as above.
    let text = unsafe { &*string.cast::<Text>() };
    let units = &text.0[at as usize..][..n as usize];
    // SAFETY: JNI's contract: `into` has room for `n` units.
    unsafe { ptr::copy_nonoverlapping(units.as_ptr(), into, units.len()) };
}

extern "system" fn new_direct_byte_buffer(_: *mut JNIEnv, address: *mut c_void, _: jlong) -> jobject {
    address.cast()
}

extern "system" fn exception_check(_: *mut JNIEnv) -> jboolean {
    false
}

/// The first step of every exception. None is expected here.
extern "system" fn missing() -> ! {
    eprintln!("a native method threw an exception, or called a function that this table does not have");
    std::process::abort();
}

/// Text of an exception.
extern "system" fn new_string(_: *mut JNIEnv, units: *const jchar, length: jsize) -> jstring {
    // SAFETY: JNI's contract: `units` has `length` units.
    let units = unsafe { std::slice::from_raw_parts(units, length as usize) };
    eprintln!("a native method threw: {}", String::from_utf16_lossy(units));
    std::process::abort();
}

extern "system" fn something(_: *mut JNIEnv) -> jobject {
    ptr::dangling_mut::<u8>().cast()
}

/// See the module. Lives as long as the process: native code keeps no pointer to it.
pub(crate) struct Jvm {
    env: *mut JNIEnv,
    events: Box<Array>,
}

impl Jvm {
    pub(crate) fn start() -> Self {
        let table = Box::leak(Box::new(MaybeUninit::<JNINativeInterface_>::uninit()));
        let slots = size_of::<JNINativeInterface_>() / size_of::<usize>();
        let pointer = table.as_mut_ptr();
        // SAFETY: the table consists of pointers; each gets a function before any is called. The two that look something
        // up ignore what further arguments they are called with, as the calling convention allows.
        unsafe {
            for slot in 0..slots {
                pointer.cast::<usize>().add(slot).write(missing as *const () as usize);
            }
            let v = &raw mut (*pointer).v1_6;
            (*v).GetArrayLength = get_array_length;
            (*v).GetByteArrayRegion = get_byte_array_region;
            (*v).SetByteArrayRegion = set_byte_array_region;
            (*v).SetLongArrayRegion = set_long_array_region;
            (*v).GetStringLength = get_string_length;
            (*v).GetStringRegion = get_string_region;
            (*v).NewDirectByteBuffer = new_direct_byte_buffer;
            (*v).ExceptionCheck = exception_check;
            (*v).NewString = new_string;
            (&raw mut (*v).FindClass).cast::<usize>().write(something as *const () as usize);
            (&raw mut (*v).GetStaticMethodID).cast::<usize>().write(something as *const () as usize);
        }
        let env = Box::leak(Box::new(pointer.cast_const()));
        let jvm = Self { env: ptr::from_mut(env), events: Self::array(vec![0; 64 << 10]) };
        Java_kafkafast_NativeService_start(jvm.env, ptr::null_mut());
        jvm
    }

    pub(crate) fn env(&self) -> *mut JNIEnv {
        self.env
    }

    pub(crate) fn array(bytes: Vec<u8>) -> Box<Array> {
        Box::new(Array(bytes))
    }

    /// Calls `body` with a reference to a string.
    pub(crate) fn text<R>(text: &str, body: impl FnOnce(jstring) -> R) -> R {
        let text = Text(text.encode_utf16().collect());
        body(ptr::from_ref(&text).cast_mut().cast())
    }

    /// Does the service thread's work until something is said about `token`: the result of an operation, or a wake-up.
    pub(crate) fn wait(&mut self, token: jlong) -> i64 {
        loop {
            let into = ptr::from_mut(&mut *self.events).cast();
            let length = Java_kafkafast_NativeService_poll(self.env, ptr::null_mut(), into, 100);
            if let Some(result) = find(&self.events.0[..length as usize], token) {
                return result;
            }
        }
    }

    pub(crate) fn stop(self) {
        Java_kafkafast_NativeService_stop(self.env, ptr::null_mut());
    }
}

impl Array {
    pub(crate) fn reference(&self) -> jbyteArray {
        ptr::from_ref(self).cast_mut().cast()
    }

    pub(crate) fn length(&self) -> jint {
        self.0.len() as jint
    }
}

/// The result of `token` among events in the form of `service.rs`; 0 for a wake-up.
fn find(mut events: &[u8], token: i64) -> Option<i64> {
    let long = |bytes: &[u8]| i64::from_be_bytes(*bytes.first_chunk().expect("events are whole"));
    let mut found = None;
    while let [kind, rest @ ..] = events {
        let mine = long(rest) == token;
        let length = match kind {
            1 => 8,
            2 => 16,
            // Token, partition, offset, timestamp.
            4 => 28,
            _ => panic!("{}", String::from_utf8_lossy(rest)),
        };
        if mine {
            found = Some(if *kind == 2 { long(&rest[8..]) } else { 0 });
        }
        events = &rest[length..];
    }
    found
}
