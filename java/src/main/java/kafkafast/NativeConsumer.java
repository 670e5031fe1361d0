package kafkafast;

import java.nio.ByteBuffer;

/** Native side of {@link Consumer}: rust/jni/src/consumer.rs. Handles are checked by the callers to be of a live object. */
final class NativeConsumer {
    /** Nothing to read now; the slot's thread is unparked when there is. */
    static final int EMPTY = 0;
    /** The consumer was closed. */
    static final int CLOSED = -1;
    /** The next record does not fit; the index header says what is needed. */
    static final int GROW = -2;

    private NativeConsumer() {}

    /** Both as {@code name NUL value NUL ...}; see {@link RedisConf#forConnect()}. */
    static native long create(String settings, String group);

    static native void connect(long handle, String topics, long token);

    static native void deleteGroup(String group, long token);

    static native int openSlot(long handle, long token);

    static native ByteBuffer control(long handle, int slot);

    static native void closeSlot(long handle, int slot);

    static native int next(long handle, int slot, byte[] data, long[] index, int max);

    /** Waits in native code until there may be more to read, or for so many microseconds; says whether it is worth asking again. */
    static native boolean await(long handle, int slot, int micros);

    static native void look(long handle, int slot);

    static native void cancelWait(long handle, int slot);

    static native void finish(long handle, int slot, boolean all);

    static native void retry(long handle, int slot, long delayMillis, String reason);

    static native String topicName(long handle, int topicId);

    static native void changeTopics(long handle, boolean add, String topics, long token);

    /** Its result is the number of a list that {@link #listed} gives. */
    static native void quarantined(long handle, long token);

    /** A line for each unit: topic, partition, from, to, since (ms since 1970), with tabs between. Once. */
    static native String listed(long handle, long number);

    /** Its result is 1 when something was released, else 0. */
    static native void unpark(long handle, String topic, int partition, long offset, long token);

    static native void seek(long handle, String topic, int partition, long offset, long token);

    static native void stats(long handle, long[] into);

    static native void close(long handle, long token, long timeoutMillis);

    static native void release(long handle);

    static native void panicForTest(long handle);
}
