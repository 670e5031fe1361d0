package kafkafast;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.concurrent.locks.LockSupport;

/**
 * What one thread reads with: a chunk of records in a buffer that native code fills, and how far the thread has come in it. Only its thread
 * touches it, except for {@link #unpark} and what is volatile. Does not refer to the consumer, whose state holds it.
 *
 * <p>The index buffer begins with a header: topic id, partition, attempt, bytes needed (4 each). Entries of 32 bytes follow: offset,
 * timestamp (8 each), position in the data, length of key, of value (-1: null), of headers (4 each); key, value and headers lie one
 * behind the other. The control cell: records taken (4), revoked (1), at 8 until when the chunk may be handed out, in nanoseconds since native
 * made the slot (8).
 */
final class Slot implements Service.Parker, MessageView {
    static final int HEADER = 64;
    static final int MAX_RECORDS = 2048;
    private static final int FIRST_CAPACITY = 64 << 10;
    private static final VarHandle TAKEN = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());
    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    /** Work that is worth a look at the clock, which costs 25 ns. */
    private static final long WORTH_NANOS = 1000;
    private static final int RARELY = 64;

    final int id;
    /** The name native's wake-ups use. */
    final long token;
    final WeakReference<Thread> owner;
    private final ByteBuffer control;
    /** A moment before native made it, so that by our count a lease ends no later than by native's. */
    private final long opened;
    /** Records until the next look at the clock, how many there were from the last one to it, and when that was. */
    private int left;
    private int stride = 1;
    private long looked;
    final ByteBuffer index = ByteBuffer.allocateDirect(HEADER + MAX_RECORDS * 32).order(ByteOrder.nativeOrder());
    final long indexAddress = NativeConsumer.address(index);
    ByteBuffer data;
    long dataAddress;
    /** Records in the chunk, and the next one to hand out. */
    int have;
    int at;
    /** Whether record {@code at - 1} is kept for this thread and not handed out yet. */
    boolean reserved;
    Message.Origin origin;
    /** The thread while it waits. */
    volatile Thread waiting;

    Slot(int id, long token, ByteBuffer control, long opened) {
        this.opened = opened;
        this.id = id;
        this.token = token;
        this.owner = new WeakReference<>(Thread.currentThread());
        this.control = control.order(ByteOrder.nativeOrder());
        grow(FIRST_CAPACITY);
    }

    void grow(int capacity) {
        data = ByteBuffer.allocateDirect(capacity);
        dataAddress = NativeConsumer.address(data);
    }

    /** Makes room for a record of so many bytes. */
    void growTo(int needed) {
        grow(Math.max(needed, (int) Math.min(2L * data.capacity(), 1 << 30)));
    }

    int needed() {
        return index.getInt(12);
    }

    @Override
    public void unpark() {
        Thread t = waiting;
        if (t != null) {
            LockSupport.unpark(t);
        }
    }

    /**
     * Whether the next record of the chunk may be handed out. A process that slept wakes up with "revoked" not set yet, so the clock is looked
     * at too: about once a microsecond of work, so before each record once those take that long, and at least before every 64th.
     */
    boolean isOurs(long handle) {
        if (control.get(4) != 0) {
            return false;
        }
        if (--left > 0) {
            return true;
        }
        long now = System.nanoTime();
        stride = now - looked < WORTH_NANOS ? Math.min(stride * 2, RARELY) : Math.max(stride / 2, 1);
        looked = now;
        left = stride;
        if (now - opened < (long) LONGS.getAcquire(control, 8)) {
            return true;
        }
        NativeConsumer.look(handle, id);
        return control.get(4) == 0;
    }

    /** Tells native that the records before the last taken are handled. */
    void taken(int records) {
        TAKEN.setRelease(control, 0, records);
    }

    /** Takes up a chunk that native has filled. */
    void filled(int records, String topic) {
        origin = new Message.Origin(topic, index.getInt(4), index.getInt(8));
        have = records;
    }

    /** The record with that number in the chunk, copied. */
    Message message(int i) {
        int entry = HEADER + (i << 5);
        int position = index.getInt(entry + 16);
        int keyLength = index.getInt(entry + 20);
        int valueLength = index.getInt(entry + 24);
        int headersLength = index.getInt(entry + 28);
        byte[] key = bytes(position, keyLength);
        byte[] value = bytes(position + Math.max(keyLength, 0), valueLength);
        byte[] headers = headersLength == 0 ? null : bytes(position + Math.max(keyLength, 0) + Math.max(valueLength, 0), headersLength);
        return new Message(origin, index.getLong(entry), index.getLong(entry + 8), key, value, headers);
    }

    private byte[] bytes(int position, int length) {
        if (length < 0) {
            return null;
        }
        byte[] bytes = new byte[length];
        data.position(position);
        data.get(bytes);
        return bytes;
    }

    /** The value of the record in hand, in place. */
    ByteBuffer view() {
        int entry = HEADER + ((at - 1) << 5);
        int position = index.getInt(entry + 16) + Math.max(index.getInt(entry + 20), 0);
        int length = index.getInt(entry + 24);
        if (length < 0) {
            return null;
        }
        ByteBuffer view = data.asReadOnlyBuffer();
        view.limit(position + length).position(position);
        return view;
    }

    @Override
    public String getTopic() {
        return origin.topic;
    }

    @Override
    public int getPartition() {
        return origin.partition;
    }

    @Override
    public int getAttempt() {
        return origin.attempt;
    }

    @Override
    public long getOffset() {
        return index.getLong(HEADER + ((at - 1) << 5));
    }

    @Override
    public long getTimestamp() {
        return index.getLong(HEADER + ((at - 1) << 5) + 8);
    }

    @Override
    public byte[] getKey() {
        int entry = HEADER + ((at - 1) << 5);
        return bytes(index.getInt(entry + 16), index.getInt(entry + 20));
    }

    @Override
    public java.util.List<Header> getHeaders() {
        return message(at - 1).getHeaders();
    }
}
