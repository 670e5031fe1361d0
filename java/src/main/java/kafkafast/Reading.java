package kafkafast;

import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/**
 * How the threads of one {@link Consumer} read: each has a {@link Slot} of its own, which holds a chunk of records. Asking for the next
 * record acknowledges the one before. Does not refer to the consumer, whose methods keep it reachable around every call.
 */
final class Reading {
    private static final long FULL_SAID_EVERY = TimeUnit.SECONDS.toNanos(30);

    private final ConsumerState state;
    private final long handle;
    /** The state holds them as long as it is open: threads, which outlive consumers, must not hold their buffers. */
    private final ThreadLocal<WeakReference<Slot>> slots = new ThreadLocal<>();
    /** The slot of the thread that read first, often the only one, found without a look into the thread's table. Others may see it late. */
    private WeakReference<Slot> first = new WeakReference<>(null);
    private volatile String[] topicNames = new String[0];
    /** When it was logged last that there is no memory for a slot. */
    private volatile long fullSaidAt = System.nanoTime() - FULL_SAID_EVERY;

    Reading(ConsumerState state) {
        this.state = state;
        this.handle = state.handle;
    }

    /** The next message; null when the time is over or the consumer is closed. */
    Message next(long timeoutMillis) {
        Slot slot = slot();
        if (slot == null || !reserve(slot, timeoutMillis)) {
            return null;
        }
        // Until it is made, for which there may be no memory, it is not handed out.
        slot.reserved = true;
        Message message;
        try {
            message = slot.message(slot.at - 1);
        } catch (OutOfMemoryError e) {
            throw noRoom(slot, slot.at - 1, e);
        }
        slot.reserved = false;
        return message;
    }

    /** At most {@code max} messages of one chunk; empty when the time is over or the consumer is closed. */
    List<Message> batch(int max, long timeoutMillis) {
        Slot slot = slot();
        if (slot == null || !reserve(slot, timeoutMillis)) {
            return new ArrayList<>();
        }
        // Until they are made, for which there may be no memory, none is handed out.
        slot.reserved = true;
        // The cell keeps naming the first: until the next ask none of them is handled.
        int first = slot.at - 1;
        List<Message> batch = messages(slot, first, slot.claimUpTo((int) Math.min((long) first + max, slot.have)));
        slot.at = first + batch.size();
        slot.reserved = false;
        return batch;
    }

    /** Messages of the chunk, up to the first for which there is no memory: the next ask begins with that one. */
    private List<Message> messages(Slot slot, int from, int to) {
        List<Message> made = null;
        try {
            made = new ArrayList<>(to - from);
            for (int i = from; i < to; i++) {
                made.add(slot.message(i));
            }
            return made;
        } catch (OutOfMemoryError e) {
            if (made == null || made.isEmpty()) {
                throw noRoom(slot, from, e);
            }
            return made;
        }
    }

    /** Shows at most {@code max} messages to the handler, and says how many there were. */
    int show(int max, long timeoutMillis, ViewHandler handler) {
        Slot slot = slot();
        int shown = 0;
        while (slot != null && shown < max && reserve(slot, shown == 0 ? timeoutMillis : 0)) {
            slot.reserved = true;
            ByteBuffer view = slot.view();
            slot.reserved = false;
            shown++;
            show(slot, view, handler);
        }
        return shown;
    }

    /** Shows the message in hand. One whose handler throws goes back: the next ask would acknowledge it. */
    private void show(Slot slot, ByteBuffer view, ViewHandler handler) {
        slot.handling = true;
        try {
            handler.handle(slot, view);
        } catch (Throwable e) {
            try {
                failed(slot, Log.describe(e));
            } catch (RuntimeException | Error more) {
                e.addSuppressed(more);
            }
            if (e instanceof RuntimeException) {
                throw (RuntimeException) e;
            }
            if (e instanceof Error) {
                throw (Error) e;
            }
            throw new KafkaFastException("The handler of forEachView failed: " + Log.describe(e), e);
        } finally {
            slot.handling = false;
        }
    }

    /** Runs a handler on the message in hand. What it throws is returned: the message has gone back then. Null when it returned. */
    Throwable handle(Message message, Handler handler) {
        // None is left of a consumer that has closed meanwhile, and the message was handed back.
        Slot slot = known();
        if (slot != null) {
            slot.handling = true;
        }
        try {
            handler.handle(message);
            return null;
        } catch (Throwable e) {
            try {
                if (slot != null) {
                    failed(slot, Log.describe(e));
                }
            } catch (RuntimeException | Error more) {
                more.addSuppressed(e);
                throw more;
            }
            return e;
        } finally {
            if (slot != null) {
                slot.handling = false;
            }
        }
    }

    /** Keeps the next message for this thread; false when the consumer is closed. */
    boolean hasNext() {
        Slot slot = slot();
        if (slot == null || !reserve(slot, Long.MAX_VALUE)) {
            return false;
        }
        slot.reserved = true;
        return true;
    }

    /**
     * The message in hand failed: it goes back. While the consumer is open that is a failed attempt, and the message comes again after a
     * back-off; a consumer that closes hands it back as it is, for the closing may be why user code threw.
     */
    private void failed(Slot slot, String reason) {
        // First of all Java forgets the chunk, so that whatever happens here, no later ask acknowledges it.
        slot.drop();
        if (state.isClosed()) {
            NativeConsumer.finish(handle, slot.id, false);
        } else {
            NativeConsumer.retry(handle, slot.id, -1, reason);
        }
        slot.owed = false;
    }

    /**
     * The heap has no room for a message: it failed, as if a handler had thrown. Else it would be tried for ever, and keep its unit from
     * everybody.
     *
     * @param i its number in the chunk; -1 for the one that the chunk was too small for
     * @return what the caller throws
     */
    private OutOfMemoryError noRoom(Slot slot, int i, OutOfMemoryError e) {
        String reason = "no memory to take it";
        String line = "There is no memory to take a message; it comes again";
        try {
            String topic = topicName((int) slot.index[0]);
            String record = i < 0 ? slot.tooLarge(topic) : slot.named(i, topic);
            line = "There is no memory to take " + record + "; it comes again. Give Java more heap (-Xmx), or let fewer threads read";
            reason = reason + ": " + Log.describe(e);
        } catch (Throwable more) {
            // Nor is there for a better text.
        }
        failed(slot, reason);
        Log.write(Log.WARN, Log.CONSUMER, line, e);
        return e;
    }

    /** This thread reads no more. What its user code has returned from is handled, the rest goes back. */
    void leave() {
        Slot slot = known();
        if (slot == null) {
            return;
        }
        try {
            acknowledge(slot);
        } finally {
            slots.remove();
            if (first.get() == slot) {
                first = new WeakReference<>(null);
            }
            state.close(slot);
        }
    }

    /** Makes record {@code slot.at - 1} the one in this thread's hands; false when time is over or the consumer closed. */
    private boolean reserve(Slot slot, long timeoutMillis) {
        if (state.isClosed()) {
            acknowledge(slot);
            return false;
        }
        if (slot.reserved) {
            return true;
        }
        if (slot.claimsNext() && slot.isOurs(handle)) {
            slot.at++;
            slot.taken(slot.at);
            return true;
        }
        return fill(slot, timeoutMillis);
    }

    /** Gets the next chunk, waiting for it. Asking for it acknowledges what was handed out of the chunk before. */
    private boolean fill(Slot slot, long timeoutMillis) {
        if (slot.owed) {
            NativeConsumer.finish(handle, slot.id, false);
            slot.owed = false;
        }
        if (slot.have > 0) {
            // A batch was handed out as one: if the rest is taken back at this moment, none of the batch is.
            slot.taken(slot.at);
        }
        slot.have = 0;
        slot.at = 0;
        long start = 0;
        boolean waited = false;
        slot.waiting = Thread.currentThread();
        try {
            while (true) {
                // Until it is taken up, which may fail, what comes was not handed out.
                slot.owed = true;
                int n = NativeConsumer.next(handle, slot.id, slot.data, slot.index, Slot.MAX_RECORDS);
                if (n > 0) {
                    waited = false;
                    slot.waited(start == 0 ? 0 : System.nanoTime() - start);
                    filled(slot, n);
                    return true;
                }
                if (n == NativeConsumer.GROW) {
                    grow(slot);
                    continue;
                }
                slot.owed = false;
                if (n == NativeConsumer.CLOSED) {
                    return false;
                }
                // Native has registered this slot's waker before it said "empty": what comes from now on unparks us.
                waited = true;
                if (Thread.interrupted()) {
                    throw new InterruptException("Interrupted while waiting for a message");
                }
                long now = System.nanoTime();
                start = start == 0 ? now : start;
                long left = Times.nanos(timeoutMillis) - (now - start);
                if (left <= 0 || state.isClosed()) {
                    return false;
                }
                // Where records come one after the other the next one is waited for there: it costs a switch of threads less.
                if (slot.brisk && NativeConsumer.await(handle, slot.id, (int) Math.min(left / 1000, Slot.MOMENT_MICROS))) {
                    continue;
                }
                slot.brisk = false;
                LockSupport.parkNanos(this, Math.min(left, Op.SLICE));
            }
        } finally {
            slot.waiting = null;
            if (waited) {
                NativeConsumer.cancelWait(handle, slot.id);
            }
        }
    }

    /** Takes up a chunk. When there is no memory for that it goes back: the next ask would acknowledge what nobody saw. */
    private void filled(Slot slot, int records) {
        try {
            slot.filled(records, topicName((int) slot.index[0]));
        } catch (OutOfMemoryError e) {
            throw noRoom(slot, 0, e);
        }
        slot.at = 1;
        slot.taken(1);
        slot.owed = false;
    }

    private void grow(Slot slot) {
        try {
            slot.makeRoom();
        } catch (OutOfMemoryError e) {
            throw noRoom(slot, -1, e);
        }
    }

    /** Says that what this thread took is handled, without taking more; the rest of the chunk goes back. */
    private void acknowledge(Slot slot) {
        if (slot.have == 0) {
            return;
        }
        // What hasNext() has reserved was never given to anybody.
        boolean all = slot.at == slot.have && !slot.reserved;
        if (!slot.reserved) {
            slot.taken(all ? slot.at : slot.at + 1);
        }
        slot.have = 0;
        slot.at = 0;
        slot.reserved = false;
        NativeConsumer.finish(handle, slot.id, all);
    }

    /** This thread's slot, to ask for a message with; null when the consumer is closed. */
    private Slot slot() {
        Slot slot = known();
        if (slot != null && slot.handling) {
            throw new IllegalStateException("A handler of process or forEachView asks its own consumer for a message: that would acknowledge the "
                + "message in its hands. Let it return, and the next one comes; or read from another Consumer");
        }
        if (slot == null && !state.isClosed()) {
            slot = open();
            if (slot != null) {
                WeakReference<Slot> found = new WeakReference<>(slot);
                slots.set(found);
                if (first.get() == null) {
                    first = found;
                }
            }
        }
        return slot;
    }

    private Slot open() {
        try {
            return state.open();
        } catch (OutOfMemoryError e) {
            long now = System.nanoTime();
            if (now - fullSaidAt > FULL_SAID_EVERY) {
                fullSaidAt = now;
                Log.write(Log.WARN, Log.CONSUMER, "There is no memory for a thread to read with, which takes about 150 KB. Give Java more heap (-Xmx)", e);
            }
            throw e;
        }
    }

    /** This thread's slot, if it has one. */
    private Slot known() {
        Slot mine = first.get();
        if (mine != null && mine.owner.get() == Thread.currentThread()) {
            return mine;
        }
        WeakReference<Slot> slot = slots.get();
        return slot == null ? null : slot.get();
    }

    private String topicName(int id) {
        String[] names = topicNames;
        if (id < names.length && names[id] != null) {
            return names[id];
        }
        String name = NativeConsumer.topicName(handle, id);
        // Two threads may do this at once; the one that loses asks again another time.
        String[] more = java.util.Arrays.copyOf(names, Math.max(names.length, id + 1));
        more[id] = name;
        topicNames = more;
        return name;
    }
}
