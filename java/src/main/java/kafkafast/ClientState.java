package kafkafast;

import java.time.LocalTime;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.LongConsumer;

/**
 * What a Producer or Consumer is without its object: the handle, and where it is in its life. Never refers to the object itself, so
 * that the object can become unreachable while the service, the shutdown hook and the reaper still know this.
 *
 * <p>Life: open, closing (one operation, everybody waits for the same), closed. The memory behind the handle is freed when the object
 * is unreachable and closing has ended; until then any call with the handle is answered, never a crash.
 */
abstract class ClientState {
    final String what;
    final long handle;
    private final AtomicReference<Op> closing = new AtomicReference<>();
    private volatile String closedBy;
    private volatile boolean unreachable;
    private boolean released;

    ClientState(String what, long handle) {
        this.what = what;
        this.handle = handle;
    }

    abstract void nativeClose(long token, long timeoutMillis);

    abstract void nativeRelease();

    /** Wakes threads that wait inside the client. */
    abstract void wake();

    /** A turn of the service thread, about once a second. */
    abstract void sweep();

    final boolean isClosed() {
        return closedBy != null;
    }

    final Op closing() {
        return closing.get();
    }

    /** The error of using the client after {@link Producer#close()}. */
    final IllegalStateException closedError() {
        String by = closedBy;
        return new IllegalStateException("This " + what + " was closed" + (by == null ? "" : by));
    }

    /** Runs an operation of the open client to its end and gives its result. */
    final long run(String name, LongConsumer start) {
        Op op = new Op(null);
        try {
            start.accept(op.token);
            return op.get(name);
        } catch (KafkaFastException e) {
            // Closed meanwhile: say by whom, not what the closing looked like from inside.
            if (isClosed() && e.getClass() == KafkaFastException.class) {
                throw closedError();
            }
            throw e;
        } finally {
            op.abandon();
        }
    }

    /** Starts to close, or returns the operation that does already. */
    final Op startClose(long timeoutMillis) {
        Op running = closing.get();
        if (running != null) {
            return running;
        }
        Op op = new Op(this::closed);
        if (!closing.compareAndSet(null, op)) {
            op.abandon();
            return closing.get();
        }
        String time = LocalTime.now().format(DateTimeFormatter.ofPattern("HH:mm:ss"));
        closedBy = " at " + time + " by thread " + Thread.currentThread().getName();
        try {
            nativeClose(op.token, timeoutMillis);
        } catch (RuntimeException e) {
            Service.forget(op.token);
            op.fail(13, false, e.getMessage());
        }
        wake();
        return op;
    }

    /** Closes and waits for the end. Only the caller that started it is told of records that were not delivered. */
    final void close(long timeoutMillis) {
        boolean first = closing.get() == null;
        Op op = startClose(timeoutMillis);
        // Native ends in time; the margin is for the way back.
        long limit = TimeUnit.MILLISECONDS.toNanos(timeoutMillis) + TimeUnit.SECONDS.toNanos(10);
        if (!op.await(limit < 0 ? Long.MAX_VALUE : limit, what + ".close; it goes on in the background")) {
            throw new TimeoutException(what + ".close did not end within " + timeoutMillis + " ms");
        }
        if (first && op.error() != null) {
            throw op.error();
        }
    }

    /** On the service thread: closing has ended. */
    private void closed() {
        forget();
        Service.leave(this);
        if (unreachable) {
            release();
        }
    }

    /** On the service thread: the object is unreachable. Closes it if nobody did; frees the handle's memory when that has ended. */
    final void reap(long timeoutMillis) {
        unreachable = true;
        Op op = closing.get();
        if (op == null) {
            String text = what + " was not closed and is not used any more; closing it now. Use try-with-resources";
            Callbacks.submit(List.of(() -> Log.write(Log.WARN, logger(), text)));
            startClose(timeoutMillis);
        } else if (op.hasEnded()) {
            release();
        }
    }

    abstract int logger();

    /** On the service thread: closing has ended, and what only an open client needs can go. */
    abstract void forget();

    private synchronized void release() {
        if (!released) {
            released = true;
            nativeRelease();
        }
    }
}
