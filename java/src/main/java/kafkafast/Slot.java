package kafkafast;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.invoke.VarHandle;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/**
 * What one thread reads with: a chunk of records in arrays that native code fills, and how far the thread has come in it. Only its thread
 * touches it, except for {@link #unpark} and what is volatile. Does not refer to the consumer, whose state holds it.
 *
 * <p>The index begins with topic id, partition, attempt, bytes needed and of which offset. Entries of five numbers follow: offset, timestamp, and where in the data key,
 * value and headers are: position in the upper half, length in the lower one, -1 for null.
 *
 * <p>The control cell: bytes 0-7 how far this thread has claimed of its unit (lower half) and where claims end (upper half), in offsets from the
 * one in bytes 16-23; 8-15 until when the chunk may be handed out, in nanoseconds since native made the slot; 24-27 records taken; 28 revoked.
 *
 * <p>A record is claimed before it is handed out, for native takes back what is not claimed when this thread asks for nothing and others wait. It
 * lowers the end to what is claimed, this thread raises the claim, both by compare-and-set: a record is claimed or taken back, never both
 * and never neither. (rust/core/src/consumer/claim.rs is the other side, and has the model that was checked.)
 */
final class Slot implements Service.Parker, MessageView {
    static final int MAX_RECORDS = 2048;
    private static final int HEADER = 5;
    private static final int ENTRY = 5;
    private static final int FIRST_CAPACITY = 64 << 10;
    private static final int MOST_CAPACITY = 1 << 30;
    private static final byte[] NO_DATA = {};
    private static final ByteBuffer NO_VIEW = ByteBuffer.wrap(NO_DATA).asReadOnlyBuffer();
    private static final int CLAIMS_AT = 0;
    private static final int UNTIL_AT = 8;
    private static final int BASE_AT = 16;
    private static final int TAKEN_AT = 24;
    private static final int REVOKED_AT = 28;
    private static final VarHandle TAKEN = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.nativeOrder());
    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    /** Work that is worth a look at the clock, which costs 25 ns. */
    private static final long WORTH_NANOS = 1000;
    private static final int RARELY = 64;
    /** The most records that are claimed at once: so many stay with a thread that stops asking. */
    private static final int CLAIM_MOST = 16;
    /** The longest wait in native code, where no interrupt is heard. */
    static final int MOMENT_MICROS = 2000;
    /** {@code Thread.isVirtual()}, since Java 21; null before. */
    private static final MethodHandle IS_VIRTUAL = isVirtual();

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
    final long[] index = new long[HEADER + MAX_RECORDS * ENTRY];
    byte[] data;
    /** Shows values in place. */
    private ByteBuffer view;
    /** Records in the chunk, and the next one to hand out. */
    int have;
    int at;
    /** Records of the chunk that this thread has claimed. */
    private int claimed;
    /** The offset that claims count from. */
    private long base;
    /** Whether record {@code at - 1} is kept for this thread and not handed out yet. */
    boolean reserved;
    /** Whether user code works on the record in hand inside our call: its thread may not ask for another. */
    boolean handling;
    /**
     * Whether what native has given out last goes back from the record in hand on, and native was not told so yet: it failed, or it was not
     * taken up because something was thrown on the way.
     */
    boolean owed;
    Message.Origin origin;
    /** The thread while it waits. */
    volatile Thread waiting;
    /** Whether it got the last records within a moment, as it will the next ones if they are of a stream. */
    boolean brisk;
    /** A virtual thread that waits in native code keeps the thread that carries it. */
    private final boolean mayWaitInside;

    Slot(int id, long token, ByteBuffer control, long opened) {
        this.opened = opened;
        this.id = id;
        this.token = token;
        this.owner = new WeakReference<>(Thread.currentThread());
        this.mayWaitInside = !isVirtual(Thread.currentThread());
        this.control = control.order(ByteOrder.nativeOrder());
        grow(FIRST_CAPACITY);
    }

    private void grow(int capacity) {
        byte[] made = new byte[capacity];
        view = ByteBuffer.wrap(made).asReadOnlyBuffer();
        data = made;
    }

    /** Makes room for the record that did not fit; the chunk is empty. Throws OutOfMemoryError, and has no room at all then. */
    void makeRoom() {
        int needed = (int) index[3];
        int more = Math.max(needed, Math.max(FIRST_CAPACITY, (int) Math.min(2L * data.length, MOST_CAPACITY)));
        // All of the old array was handed out, and the heap may not hold both.
        data = NO_DATA;
        view = NO_VIEW;
        try {
            grow(more);
        } catch (OutOfMemoryError e) {
            if (more == needed) {
                throw e;
            }
            grow(needed);
        }
    }

    /** The record for which native found no room, as a text. */
    String tooLarge(String topic) {
        return topic + "/" + index[1] + "@" + index[4] + " (" + index[3] + " bytes), attempt " + index[2];
    }

    /** The record with that number in the chunk, as a text. */
    String named(int i, String topic) {
        int entry = HEADER + i * ENTRY;
        return topic + "/" + index[1] + "@" + index[entry] + " (" + Math.max((int) index[entry + 3], 0) + " bytes), attempt " + index[2];
    }

    @Override
    public void unpark() {
        Thread t = waiting;
        if (t != null) {
            LockSupport.unpark(t);
        }
    }

    /** Claims the next record of the chunk, if it is this thread's still; what is claimed already is. */
    boolean claimsNext() {
        return at < have && (at < claimed || claim(Math.min(at + Math.min(stride, CLAIM_MOST), have)));
    }

    /** Claims the first so many records of the chunk, or none if the rest was taken back. Says how many are claimed. */
    int claimUpTo(int records) {
        if (claimed < records) {
            claim(records);
        }
        return Math.min(claimed, records);
    }

    private boolean claim(int records) {
        long to = index[HEADER + (records - 1) * ENTRY] + 1 - base;
        while (true) {
            long seen = (long) LONGS.getVolatile(control, CLAIMS_AT);
            long end = seen >>> 32;
            if ((seen & 0xFFFF_FFFFL) == end && end != 0xFFFF_FFFFL) {
                return false;
            }
            // A unit that is too long to count is claimed as a whole.
            if (end == 0xFFFF_FFFFL || LONGS.compareAndSet(control, CLAIMS_AT, seen, end << 32 | to)) {
                claimed = records;
                return true;
            }
        }
    }

    /**
     * Whether the next record of the chunk may be handed out. A process that slept wakes up with "revoked" not set yet, so the clock is looked
     * at too: about once a microsecond of work, so before each record once those take that long, and at least before every 64th.
     */
    boolean isOurs(long handle) {
        if (control.get(REVOKED_AT) != 0) {
            return false;
        }
        if (--left > 0) {
            return true;
        }
        long now = System.nanoTime();
        long busy = now - looked;
        stride = busy < WORTH_NANOS ? Math.min(stride * 2, RARELY) : busy < RARELY * WORTH_NANOS ? Math.max(stride / 2, 1) : 1;
        looked = now;
        left = stride;
        if (now - opened < (long) LONGS.getAcquire(control, UNTIL_AT)) {
            return true;
        }
        NativeConsumer.look(handle, id);
        return control.get(REVOKED_AT) == 0;
    }

    /** Tells native that the records before the last taken are handled. */
    void taken(int records) {
        TAKEN.setRelease(control, TAKEN_AT, records);
    }

    /** Takes up a chunk that native has filled. */
    void filled(int records, String topic) {
        origin = new Message.Origin(topic, (int) index[1], (int) index[2]);
        base = (long) LONGS.get(control, BASE_AT);
        // Native has claimed the first.
        claimed = 1;
        have = records;
    }

    /** Forgets the chunk, which goes back from the record in hand on. Nothing but telling native is left to do. */
    void drop() {
        owed = true;
        have = 0;
        at = 0;
        reserved = false;
    }

    /** For the service thread, when the slot's thread has ended: which messages it had in hands; null when there are none. */
    String inHands() {
        int first = (int) TAKEN.getAcquire(control, TAKEN_AT);
        if (have == 0 || reserved || first < 1 || first > at) {
            return null;
        }
        long offset = index[HEADER + (first - 1) * ENTRY];
        String more = at > first ? " to @" + index[entry()] : "";
        return origin.topic + "/" + origin.partition + "@" + offset + more;
    }

    /** Notes how long this thread has waited for what it got, in nanoseconds. */
    void waited(long nanos) {
        brisk = mayWaitInside && nanos < TimeUnit.MICROSECONDS.toNanos(MOMENT_MICROS);
    }

    /** The record with that number in the chunk, copied. */
    Message message(int i) {
        int entry = HEADER + i * ENTRY;
        byte[] key = bytes(index[entry + 2]);
        byte[] value = bytes(index[entry + 3]);
        return new Message(origin, index[entry], index[entry + 1], key, value, bytes(index[entry + 4]));
    }

    private byte[] bytes(long place) {
        int length = (int) place;
        if (length < 0) {
            return null;
        }
        int from = (int) (place >> 32);
        return Arrays.copyOfRange(data, from, from + length);
    }

    /** The value of the record in hand, in place: always the same buffer. */
    ByteBuffer view() {
        long place = index[entry() + 3];
        int length = (int) place;
        if (length < 0) {
            return null;
        }
        int from = (int) (place >> 32);
        view.limit(from + length).position(from);
        return view.order(ByteOrder.BIG_ENDIAN);
    }

    /** Where the record in hand is in the index. */
    private int entry() {
        return HEADER + (at - 1) * ENTRY;
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
        return index[entry()];
    }

    @Override
    public long getTimestamp() {
        return index[entry() + 1];
    }

    @Override
    public byte[] getKey() {
        return bytes(index[entry() + 2]);
    }

    @Override
    public List<Header> getHeaders() {
        return Headers.read(bytes(index[entry() + 4]));
    }

    private static MethodHandle isVirtual() {
        try {
            return MethodHandles.publicLookup().findVirtual(Thread.class, "isVirtual", MethodType.methodType(boolean.class));
        } catch (ReflectiveOperationException before21) {
            return null;
        }
    }

    private static boolean isVirtual(Thread thread) {
        try {
            return IS_VIRTUAL != null && (boolean) IS_VIRTUAL.invokeExact(thread);
        } catch (Throwable neverThrown) {
            throw new AssertionError(neverThrown);
        }
    }
}
