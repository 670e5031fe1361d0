package kafkafast;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/** The threads of one {@link Consumer#process} call. */
final class Workers {
    /** How long a worker waits for a message before it looks whether the call is to end. */
    private static final long LOOK_MILLIS = 200;
    /** How long it leaves the heap alone that had no room for a message. */
    private static final long PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

    private final Consumer consumer;
    private final Handler handler;
    private final int count;
    private final AtomicReference<Throwable> failure = new AtomicReference<>();
    private volatile boolean stopping;

    Workers(Consumer consumer, int count, Handler handler) {
        this.consumer = consumer;
        this.count = count;
        this.handler = handler;
    }

    void run() {
        List<Thread> threads = new ArrayList<>(count);
        try {
            for (int i = 0; i < count; i++) {
                Thread thread = new Thread(null, this::work, "kafkafast-worker-" + i, 0, true);
                thread.setDaemon(true);
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
        } catch (InterruptedException e) {
            throw new InterruptException("Interrupted in Consumer.process; its threads end after the message they are on");
        } finally {
            stopping = true;
        }
        Throwable e = failure.get();
        if (e instanceof Error) {
            throw (Error) e;
        }
        if (e != null) {
            throw (RuntimeException) e;
        }
    }

    private void work() {
        try {
            try {
                while (!stopping && step()) { }
            } finally {
                consumer.leave();
            }
        } catch (Throwable e) {
            failure.compareAndSet(null, e);
            stopping = true;
        }
    }

    /**
     * Takes a message and handles it. What is wrong with one message, its handler or its memory, ends neither this thread nor the call.
     *
     * @return false when the consumer is closed
     */
    private boolean step() {
        // The flag was meant for a handler that has returned: nobody but user code knows this thread.
        Thread.interrupted();
        Message message;
        try {
            message = consumer.readMsg(LOOK_MILLIS);
        } catch (InterruptException e) {
            return true;
        } catch (OutOfMemoryError e) {
            // It was logged; the message, if there was one, has failed. Others may give memory back in a while.
            LockSupport.parkNanos(PAUSE_NANOS);
            return true;
        }
        if (message == null) {
            return !consumer.isClosed();
        }
        Throwable thrown = consumer.handle(message, handler);
        if (thrown != null) {
            report(message, thrown);
        }
        return true;
    }

    private void report(Message message, Throwable thrown) {
        try {
            if (consumer.isClosed()) {
                Log.write(Log.INFO, Log.CONSUMER, "Handling " + message + " failed while the consumer closes; it comes again", thrown);
            } else {
                Log.write(Log.WARN, Log.CONSUMER, "Handling " + message + " failed, attempt " + message.getAttempt() + "; it comes again", thrown);
            }
        } catch (Throwable e) {
            // There is no memory for the line. The group was told the reason, and a unit that is put aside is logged.
        }
    }
}
