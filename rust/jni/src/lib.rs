//! The JNI boundary of kafka-fast.
