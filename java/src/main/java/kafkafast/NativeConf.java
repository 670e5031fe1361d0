package kafkafast;

/** Native side of {@link KafkaConf}: rust/jni/src/conf.rs. Settings cross as one text, {@code name NUL value NUL ...}. */
final class NativeConf {
    private NativeConf() {}

    static native void check(String pairs);

    static native String get(String pairs, String name);

    static native String all(String pairs);
}
