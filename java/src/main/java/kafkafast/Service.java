package kafkafast;

import java.lang.ref.PhantomReference;
import java.lang.ref.ReferenceQueue;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongConsumer;

/**
 * The one service thread of the process: takes wake-ups, ends of operations, delivery results and log lines from native code in batches,
 * and acts on them. It also frees handles whose objects are unreachable and looks after slots of dead threads.
 *
 * <p>It and the native runtime start with the first client and end {@value #LINGER_MILLIS} ms after the last. It runs no code of the user.
 */
final class Service implements Runnable {
    /** How long the threads stay after the last client, for programs that open the next one at once. */
    private static final long LINGER_MILLIS = 200;
    private static final int SLICE_MILLIS = 100;
    private static final long SWEEP_NANOS = TimeUnit.SECONDS.toNanos(1);

    private static final ReentrantLock LOCK = new ReentrantLock();
    private static final AtomicLong TOKENS = new AtomicLong(1);
    /** Who waits under a token: an {@link Op}, a {@link Delivery}, or a {@link Parker}. */
    private static final ConcurrentHashMap<Long, Object> WAITERS = new ConcurrentHashMap<>();
    private static final Set<ClientState> CLIENTS = ConcurrentHashMap.newKeySet();
    private static final ReferenceQueue<Object> UNREACHABLE = new ReferenceQueue<>();
    /** Keeps the phantom references themselves reachable. */
    private static final Set<ClientRef> REFERENCES = ConcurrentHashMap.newKeySet();
    private static int leases;
    private static Thread thread;
    /** Events on their way from native; what remains of them in {@code events} is not dispatched yet. */
    private final byte[] buffer = new byte[64 << 10];
    final ByteBuffer events = ByteBuffer.wrap(buffer).limit(0);
    /** What the callbacks' thread has to do by the events dispatched so far. */
    private List<Runnable> completions;

    /** The process has one; a test has one that does not run. */
    Service() {}

    /** A waiting thread that native may unpark. */
    interface Parker {
        void unpark();
    }

    private static final class ClientRef extends PhantomReference<Object> {
        final ClientState state;
        final long closeMillis;

        ClientRef(Object client, ClientState state, long closeMillis) {
            super(client, UNREACHABLE);
            this.state = state;
            this.closeMillis = closeMillis;
        }
    }

    static long register(Object waiter) {
        Long token = TOKENS.getAndIncrement();
        WAITERS.put(token, waiter);
        return token;
    }

    static void forget(long token) {
        WAITERS.remove(token);
    }

    /** Makes sure the runtime and the service thread run; each call needs one {@link #releaseLease}. */
    static void acquireLease() {
        NativeLoader.ensure();
        LOCK.lock();
        try {
            if (thread == null) {
                NativeService.start();
                Thread t = new Thread(null, new Service(), "kafkafast-service", 0, false);
                t.setDaemon(true);
                // A thread of a library must not hold the class loader of the application that happened to start it.
                t.setContextClassLoader(null);
                t.start();
                thread = t;
                ExitHook.install();
            }
            leases++;
        } finally {
            LOCK.unlock();
        }
    }

    static void releaseLease() {
        LOCK.lock();
        try {
            leases--;
        } finally {
            LOCK.unlock();
        }
    }

    /** Runs an operation that is no client's to its end. */
    static void runAlone(String name, LongConsumer start) {
        acquireLease();
        try {
            Op op = new Op(null);
            try {
                start.accept(op.token);
                op.get(name);
            } finally {
                op.abandon();
            }
        } finally {
            releaseLease();
        }
    }

    /** Takes a client in; its lease is given back when closing has ended. */
    static void enter(Object client, ClientState state, long closeMillis) {
        REFERENCES.add(new ClientRef(client, state, closeMillis));
        CLIENTS.add(state);
    }

    static void leave(ClientState state) {
        if (CLIENTS.remove(state)) {
            releaseLease();
        }
    }

    static Iterable<ClientState> clients() {
        return CLIENTS;
    }

    @Override
    public void run() {
        long lastSweep = System.nanoTime();
        long idleSince = Long.MIN_VALUE;
        while (true) {
            try {
                if (!events.hasRemaining()) {
                    int length = NativeService.poll(buffer, SLICE_MILLIS);
                    events.position(0).limit(length);
                }
                dispatch();
                Callbacks.turn();
                reapUnreachable();
                long now = System.nanoTime();
                if (now - lastSweep > SWEEP_NANOS) {
                    lastSweep = now;
                    for (ClientState client : CLIENTS) {
                        client.sweep();
                    }
                }
                LOCK.lock();
                try {
                    if (leases > 0) {
                        idleSince = Long.MIN_VALUE;
                    } else if (idleSince == Long.MIN_VALUE) {
                        idleSince = now;
                    } else if (now - idleSince > TimeUnit.MILLISECONDS.toNanos(LINGER_MILLIS)) {
                        NativeService.stop();
                        drain();
                        Callbacks.end();
                        ExitHook.remove();
                        thread = null;
                        return;
                    }
                } finally {
                    LOCK.unlock();
                }
            } catch (Throwable e) {
                // Whatever it is, without this thread every waiter would wait for ever.
                try {
                    Callbacks.submit(List.of(() -> Log.write(Log.ERROR, Log.NET, "The service thread of kafka-fast failed and goes on", e)));
                } catch (OutOfMemoryError full) {
                    // There is none for the line, either.
                }
                LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(10));
            }
        }
    }

    /** The last events: log lines, and ends of operations that the end of the runtime has cut off. */
    private void drain() {
        for (int n = NativeService.poll(buffer, 0); n > 0; n = NativeService.poll(buffer, 0)) {
            events.position(0).limit(n);
            dispatch();
        }
    }

    private static void reapUnreachable() {
        for (Object ref = UNREACHABLE.poll(); ref != null; ref = UNREACHABLE.poll()) {
            ClientRef client = (ClientRef) ref;
            REFERENCES.remove(client);
            client.state.reap(client.closeMillis);
        }
    }

    /**
     * Reads a batch of events; the form is that of rust/jni/src/service.rs. One for which there is no memory stays the next one, and is read
     * again when there may be some: if it were lost, somebody would wait for ever.
     */
    void dispatch() {
        while (events.hasRemaining()) {
            int start = events.position();
            try {
                dispatchOne(events);
            } catch (OutOfMemoryError e) {
                events.position(start);
                throw e;
            } catch (Throwable e) {
                // A defect: where the next one begins is not known.
                events.position(events.limit());
                throw e;
            }
        }
        submit();
    }

    private void dispatchOne(ByteBuffer in) {
        int kind = in.get();
        if (kind == 6) {
            int level = in.get();
            int logger = in.get();
            String line = text(in);
            add(() -> Log.write(level, logger, line));
            return;
        }
        Long token = in.getLong();
        if (kind == 2 || kind == 3) {
            // Who waits for a flush finds the futures that ended before it on their way.
            submit();
        }
        Object waiter = WAITERS.get(token);
        if (kind == 1) {
            if (waiter instanceof Parker) {
                ((Parker) waiter).unpark();
            }
            return;
        }
        if (kind == 2) {
            long value = in.getLong();
            if (waiter instanceof Op) {
                ((Op) waiter).succeed(value);
            }
        } else if (kind == 3) {
            int error = in.getInt();
            boolean possiblyWritten = in.get() != 0;
            String text = text(in);
            if (waiter instanceof Op) {
                ((Op) waiter).fail(error, possiblyWritten, text);
            }
        } else {
            Runnable completion = kind == 4 ? delivered(in, waiter) : undelivered(in, waiter);
            if (waiter != null) {
                add(completion);
            }
        }
        WAITERS.remove(token);
    }

    private void add(Runnable completion) {
        if (completions == null) {
            completions = new ArrayList<>();
        }
        completions.add(completion);
    }

    private void submit() {
        if (completions != null) {
            Callbacks.submit(completions);
            completions = null;
        }
    }

    @SuppressWarnings("unchecked")
    private static Runnable delivered(ByteBuffer in, Object waiter) {
        int partition = in.getInt();
        long offset = in.getLong();
        long timestamp = in.getLong();
        Delivery<RecordMetadata> delivery = (Delivery<RecordMetadata>) waiter;
        return () -> {
            delivery.complete(new RecordMetadata(delivery.topic, partition, offset, timestamp));
            delivery.done();
        };
    }

    private static Runnable undelivered(ByteBuffer in, Object waiter) {
        int kind = in.getInt();
        boolean possiblyWritten = in.get() != 0;
        String text = text(in);
        Delivery<?> delivery = (Delivery<?>) waiter;
        return () -> {
            delivery.completeExceptionally(KafkaFastException.of(kind, text, possiblyWritten));
            delivery.done();
        };
    }

    private static String text(ByteBuffer in) {
        int length = in.getShort() & 0xffff;
        String text = new String(in.array(), in.position(), length, StandardCharsets.UTF_8);
        in.position(in.position() + length);
        return text;
    }
}
