package kafkafast;

/** Native side of {@link Producer}: rust/jni/src/producer.rs. Handles are checked by the callers to be of a live object. */
final class NativeProducer {
    /** The record was taken. */
    static final int TAKEN = 0;
    /** The producer was closed. */
    static final int CLOSED = -1;
    /** From here down: no room, {@code FULL - code} bytes are needed; wait with {@link #pollRoom} and try again. */
    static final int FULL = -16;

    private NativeProducer() {}

    static native long create(String settings);

    static native void connect(long handle, long token);

    static native int send(long handle, int topicId, byte[] value, int length);

    static native int sendRecord(long handle, int topicId, int partition, long timestamp, byte[] key, int keyLength, byte[] value, int valueLength,
        byte[] headers, int headersLength, long token);

    static native int cachedTopic(long handle, String topic);

    static native void lookupTopic(long handle, String topic, long token);

    static native long openRoom(long token);

    static native boolean pollRoom(long handle, long room, int needed);

    static native void closeRoom(long room);

    static native String fullText(long handle);

    static native void startFlush(long handle);

    static native void flush(long handle, long token, long timeoutMillis);

    static native void stats(long handle, long[] into);

    static native void close(long handle, long token, long timeoutMillis);

    static native void release(long handle);

    static native void panicForTest(long handle);
}
