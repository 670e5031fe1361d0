package kafkafast;

import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** The {@link ClientState} of a consumer: its readers' slots. */
final class ConsumerState extends ClientState {
    /** Slots by the token native knows them by. */
    private final ConcurrentHashMap<Long, Slot> slots = new ConcurrentHashMap<>();

    /** One cause is one line in so long. */
    private static final long QUIET_NANOS = TimeUnit.SECONDS.toNanos(30);
    /** When a thread that ended with messages was last told of, 0 when none was, and how many there were since. On the service thread. */
    private long told;
    private int untold;

    ConsumerState(long handle) {
        super("Consumer", handle);
    }

    /** A slot for the current thread; null when the consumer is closed. */
    Slot open() {
        // The token comes first, for native needs it to open; the slot follows, and nothing can be sent to it in between.
        SlotParker parker = new SlotParker();
        long token = Service.register(parker);
        int id = -1;
        boolean opened = false;
        try {
            long now = System.nanoTime();
            id = NativeConsumer.openSlot(handle, token);
            if (id < 0) {
                return null;
            }
            ByteBuffer control = NativeConsumer.control(handle, id);
            Slot slot = new Slot(id, token, control, now);
            parker.slot = slot;
            slots.put(token, slot);
            opened = true;
            if (closing() != null && closing().hasEnded()) {
                forget();
            }
            return slot;
        } finally {
            if (!opened) {
                // Closed, or no memory for the buffers.
                Service.forget(token);
                if (id >= 0) {
                    NativeConsumer.closeSlot(handle, id);
                }
            }
        }
    }

    /** Hands back what the slot holds; its thread does not use it any more. */
    void close(Slot slot) {
        if (slots.remove(slot.token) != null) {
            Service.forget(slot.token);
            NativeConsumer.closeSlot(handle, slot.id);
        }
    }

    private static final class SlotParker implements Service.Parker {
        volatile Slot slot;

        @Override
        public void unpark() {
            Slot s = slot;
            if (s != null) {
                s.unpark();
            }
        }
    }

    @Override
    void nativeClose(long token, long timeoutMillis) {
        NativeConsumer.close(handle, token, timeoutMillis);
    }

    @Override
    void nativeRelease() {
        NativeConsumer.release(handle);
    }

    @Override
    void wake() {
        slots.values().forEach(Slot::unpark);
    }

    /** Hands back what dead threads hold. They never come again, so nobody else uses their slots. */
    @Override
    void sweep() {
        for (Slot slot : slots.values()) {
            Thread owner = slot.owner.get();
            if (owner == null || !owner.isAlive()) {
                String inHands = slot.inHands();
                close(slot);
                if (inHands != null && !isClosed()) {
                    ended(owner, inHands);
                }
            }
        }
    }

    private void ended(Thread owner, String inHands) {
        long now = System.nanoTime();
        if (told != 0 && now - told < QUIET_NANOS) {
            untold++;
            return;
        }
        String text = (owner == null ? "A thread" : "Thread " + owner.getName()) + " ended with " + inHands + " in hands: that comes again. "
            + "Only asking for the next message acknowledges one"
            + (untold == 0 ? "" : ". " + untold + " other threads ended so since this was last told");
        told = now;
        untold = 0;
        Callbacks.submit(List.of(() -> Log.write(Log.WARN, Log.CONSUMER, text)));
    }

    /** Threads that are in a call keep their own slot until they leave; the buffers of the others go. */
    @Override
    void forget() {
        for (Slot slot : slots.values()) {
            if (slots.remove(slot.token) != null) {
                Service.forget(slot.token);
            }
        }
    }

    @Override
    int logger() {
        return Log.CONSUMER;
    }
}
