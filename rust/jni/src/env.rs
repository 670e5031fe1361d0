//! The few functions of the JNI table that are used, called raw.
//!
//! The safe layer of the `jni` crate looks the VM up twice and checks for exceptions around every call, which doubles
//! the cost of a send (99 ns against 38 ns, measured). Here a call is one load and one jump.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use jni::sys::{JNIEnv, jbyteArray, jint, jlong, jlongArray, jobject, jstring, jvalue};
use kafka_fast::error::ErrorKind;

/// Why an entry point ends with a Java exception.
pub(crate) enum Thrown {
    /// The JVM has raised one already (out of memory, a bad array).
    Pending,
    /// One of ours, still to be raised.
    Failure(Failure),
}

/// A failure on its way to Java: becomes the exception class of its kind.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
    /// Whether a record concerned may have reached the log all the same.
    pub(crate) possibly_written: bool,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), possibly_written: false }
    }
}

/// Kind and text of an error of the core; each has both, but by no common trait.
macro_rules! failure_from {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for $crate::env::Failure {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error.to_string())
            }
        })+
    };
}
pub(crate) use failure_from;

impl From<Failure> for Thrown {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// The environment of the Java thread that is in an entry point; valid until the entry point returns.
pub(crate) struct Env(*mut JNIEnv);

/// Calls one function of the table.
macro_rules! jni_call {
    ($env:expr, $name:ident $(, $arg:expr)*) => {
        ((**$env.0).v1_6.$name)($env.0 $(, $arg)*)
    };
}

impl Env {
    /// # Safety
    /// `raw` is the environment the JVM passed to the entry point that is running, and the result does not outlive it.
    pub(crate) unsafe fn from_raw(raw: *mut JNIEnv) -> Self {
        Self(raw)
    }

    /// Copies the first `into.len()` bytes of a Java array and returns them. The caller holds no lock of ours: the
    /// garbage collector may stop the thread inside this call.
    pub(crate) fn copy_bytes<'a>(
        &self,
        array: jbyteArray,
        into: &'a mut [MaybeUninit<u8>],
    ) -> Result<&'a [u8], Thrown> {
        let length = jint::try_from(into.len()).map_err(|_| Thrown::Pending)?;
        // SAFETY: the table is valid (see `from_raw`); `into` is writable for `length` bytes; the JVM checks the region
        // against the array's length and raises an exception when it does not fit.
        unsafe { jni_call!(self, GetByteArrayRegion, array, 0, length, into.as_mut_ptr().cast()) };
        // SAFETY: our Java classes pass the array's own length, so the region fits and all bytes were written.
        Ok(unsafe { std::slice::from_raw_parts(into.as_ptr().cast(), into.len()) })
    }

    /// Writes `bytes` to a Java array that is known to be long enough, from its byte `at` on.
    pub(crate) fn write_bytes(&self, array: jbyteArray, at: usize, bytes: &[u8]) {
        let at = jint::try_from(at).unwrap_or(jint::MAX);
        let length = jint::try_from(bytes.len()).unwrap_or(jint::MAX);
        // SAFETY: `array` is a live byte array; the JVM checks the region against its length.
        unsafe { jni_call!(self, SetByteArrayRegion, array, at, length, bytes.as_ptr().cast()) };
    }

    /// Writes numbers to the start of a Java array; one of another length raises a Java exception.
    pub(crate) fn write_longs(&self, array: jlongArray, values: &[jlong]) {
        let length = jint::try_from(values.len()).unwrap_or(jint::MAX);
        // SAFETY: `array` is a live long array; the JVM checks the region against its length.
        unsafe { jni_call!(self, SetLongArrayRegion, array, 0, length, values.as_ptr()) };
    }

    /// The length of a Java byte array.
    pub(crate) fn array_length(&self, array: jbyteArray) -> usize {
        // SAFETY: `array` is a live, non-null array reference, by the signature and our Java classes.
        usize::try_from(unsafe { jni_call!(self, GetArrayLength, array) }).unwrap_or(0)
    }

    /// A Java string as UTF-8; unpaired surrogates become replacement characters.
    pub(crate) fn string(&self, string: jstring) -> Result<String, Thrown> {
        if string.is_null() {
            return Err(Failure::new(ErrorKind::InvalidArgument, "a text must not be null").into());
        }
        // SAFETY: `string` is a live local reference to a string, by the signature of the Java method.
        let length = unsafe { jni_call!(self, GetStringLength, string) };
        let mut units = vec![0u16; usize::try_from(length).map_err(|_| Thrown::Pending)?];
        // SAFETY: `units` is writable for the string's whole length.
        unsafe { jni_call!(self, GetStringRegion, string, 0, length, units.as_mut_ptr()) };
        Ok(String::from_utf16_lossy(&units))
    }

    /// A new Java string; null, with an exception pending, when the heap is full.
    pub(crate) fn new_string(&self, text: &str) -> jstring {
        let units: Vec<u16> = text.encode_utf16().collect();
        let length = jint::try_from(units.len()).unwrap_or(jint::MAX);
        // SAFETY: `units` holds `length` code units.
        unsafe { jni_call!(self, NewString, units.as_ptr(), length) }
    }

    /// A direct buffer over memory of ours.
    ///
    /// # Safety
    /// The memory stays valid and may be written for as long as Java can reach the buffer.
    pub(crate) unsafe fn direct_buffer(&self, address: *mut u8, length: usize) -> jobject {
        // SAFETY: promised by the caller; the length of a control cell fits.
        unsafe { jni_call!(self, NewDirectByteBuffer, address.cast(), length as i64) }
    }

    /// Raises the Java exception of a failure. Does nothing more when one is pending already.
    pub(crate) fn throw(&self, failure: &Failure) {
        const CLASS: &CStr = c"kafkafast/KafkaFastException";
        const FACTORY: &CStr = c"of";
        const SIGNATURE: &CStr = c"(ILjava/lang/String;Z)Ljava/lang/RuntimeException;";
        // SAFETY: plain look-ups and calls with valid names and matching arguments. `FindClass` uses the class loader of
        // the Java class whose native method is running, which is ours. After each step that may raise an exception the
        // result is tested, and with one pending nothing further is called.
        unsafe {
            if jni_call!(self, ExceptionCheck) {
                return;
            }
            let class = jni_call!(self, FindClass, CLASS.as_ptr());
            if class.is_null() {
                return;
            }
            let method = jni_call!(self, GetStaticMethodID, class, FACTORY.as_ptr(), SIGNATURE.as_ptr());
            if method.is_null() {
                return;
            }
            let text = self.new_string(&failure.text);
            if text.is_null() {
                return;
            }
            let arguments = [
                jvalue { i: failure.kind.code() },
                jvalue { l: text },
                jvalue { z: failure.possibly_written },
            ];
            let exception = jni_call!(self, CallStaticObjectMethodA, class, method, arguments.as_ptr());
            if !jni_call!(self, ExceptionCheck) && !exception.is_null() {
                jni_call!(self, Throw, exception);
            }
        }
    }
}
