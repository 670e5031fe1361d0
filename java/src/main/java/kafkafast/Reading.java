package kafkafast;

import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.locks.LockSupport;

/**
 * How the threads of one {@link Consumer} read: each has a {@link Slot} of its own, which holds a chunk of records. Asking for the next
 * record acknowledges the one before. Does not refer to the consumer, whose methods keep it reachable around every call.
 */
final class Reading {
    private final ConsumerState state;
    private final long handle;
    /** The state holds them as long as it is open: threads, which outlive consumers, must not hold their buffers. */
    private final ThreadLocal<WeakReference<Slot>> slots = new ThreadLocal<>();
    /** The slot of the thread that read first, often the only one, found without a look into the thread's table. Others may see it late. */
    private WeakReference<Slot> first = new WeakReference<>(null);
    private volatile String[] topicNames = new String[0];

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
        Message message = slot.message(slot.at - 1);
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
        int end = (int) Math.min((long) first + max, slot.have);
        List<Message> batch = new ArrayList<>(end - first);
        for (int i = first; i < end; i++) {
            batch.add(slot.message(i));
        }
        slot.at = end;
        slot.reserved = false;
        return batch;
    }

    /** Shows at most {@code max} messages to the handler, and says how many there were. */
    int show(int max, long timeoutMillis, ViewHandler handler) {
        try {
            Slot slot = slot();
            int shown = 0;
            while (slot != null && shown < max && reserve(slot, shown == 0 ? timeoutMillis : 0)) {
                slot.reserved = true;
                ByteBuffer view = slot.view();
                slot.reserved = false;
                shown++;
                handler.handle(slot, view);
            }
            return shown;
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new KafkaFastException("The handler of forEachView failed: " + e, e);
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

    /** Gives the message in hand back, to come again after a back-off. */
    void retry(String reason) {
        Slot slot = known();
        if (slot != null && slot.have > 0) {
            slot.have = 0;
            slot.at = 0;
            NativeConsumer.retry(handle, slot.id, -1, reason);
        }
    }

    /** This thread reads no more: what it took is handled if so said, the rest goes back. */
    void leave(boolean handled) {
        Slot slot = known();
        if (slot != null) {
            if (handled) {
                acknowledge(slot);
            }
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
        if (slot.at < slot.have && slot.isOurs(handle)) {
            slot.at++;
            slot.taken(slot.at);
            return true;
        }
        return fill(slot, timeoutMillis);
    }

    /** Gets the next chunk, waiting for it. Asking for it acknowledges what was handed out of the chunk before. */
    private boolean fill(Slot slot, long timeoutMillis) {
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
                int n = NativeConsumer.next(handle, slot.id, slot.data, slot.index, Slot.MAX_RECORDS);
                if (n > 0) {
                    waited = false;
                    slot.waited(start == 0 ? 0 : System.nanoTime() - start);
                    filled(slot, n);
                    return true;
                }
                if (n == NativeConsumer.CLOSED) {
                    return false;
                }
                if (n == NativeConsumer.GROW) {
                    slot.growTo(slot.needed());
                    continue;
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
        boolean filled = false;
        try {
            slot.filled(records, topicName((int) slot.index[0]));
            filled = true;
        } finally {
            if (!filled) {
                NativeConsumer.finish(handle, slot.id, false);
            }
        }
        slot.at = 1;
        slot.taken(1);
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

    /** This thread's slot; null when the consumer is closed. */
    private Slot slot() {
        Slot slot = known();
        if (slot == null && !state.isClosed()) {
            slot = state.open();
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
