package kafkafast;

import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/**
 * An operation that native code runs: connect, a topic's look-up, flush, close. Native reports its end under the token; threads wait
 * here, parked, in slices, so that an interrupt and a lost wake-up cost at most a slice.
 */
final class Op {
    /** Longest uninterrupted park, in nanoseconds. */
    static final long SLICE = TimeUnit.MILLISECONDS.toNanos(100);

    final long token;
    private final Runnable onEnd;
    private final Queue<Thread> waiting = new ConcurrentLinkedQueue<>();
    private long value;
    private int kind;
    private String text;
    private boolean possiblyWritten;
    private volatile boolean ended;

    /** An operation known to the service from now on. {@code onEnd}, if not null, runs on the service thread and must be short. */
    Op(Runnable onEnd) {
        this.onEnd = onEnd;
        this.token = Service.register(this);
    }

    /** Called when native refused to start it, so nobody will report its end. */
    void abandon() {
        Service.forget(token);
    }

    void succeed(long value) {
        this.value = value;
        end();
    }

    void fail(int kind, boolean possiblyWritten, String text) {
        this.kind = kind;
        this.possiblyWritten = possiblyWritten;
        this.text = text;
        end();
    }

    private void end() {
        ended = true;
        try {
            if (onEnd != null) {
                onEnd.run();
            }
        } finally {
            for (Thread t = waiting.poll(); t != null; t = waiting.poll()) {
                LockSupport.unpark(t);
            }
        }
    }

    boolean hasEnded() {
        return ended;
    }

    /** Waits for the end; false when {@code nanos} are over first. Throws InterruptException, the flag set. */
    boolean await(long nanos, String what) {
        if (ended) {
            return true;
        }
        long start = System.nanoTime();
        // Register, look again, park: the end is either seen here or unparks us.
        waiting.add(Thread.currentThread());
        try {
            while (!ended) {
                if (Thread.interrupted()) {
                    throw new InterruptException("Interrupted while waiting for " + what);
                }
                long left = nanos - (System.nanoTime() - start);
                if (left <= 0) {
                    return false;
                }
                LockSupport.parkNanos(this, Math.min(left, SLICE));
            }
            return true;
        } finally {
            waiting.remove(Thread.currentThread());
        }
    }

    /** Waits for the end without limit (native bounds every operation) and gives the result or throws the error. */
    long get(String what) {
        await(Long.MAX_VALUE, what);
        return result();
    }

    /** The result of an ended operation, or its error as an exception made here, in the caller's thread. */
    long result() {
        RuntimeException e = error();
        if (e != null) {
            throw e;
        }
        return value;
    }

    /** The error of an ended operation, or null. */
    RuntimeException error() {
        return kind == 0 ? null : KafkaFastException.of(kind, text, possiblyWritten);
    }
}
