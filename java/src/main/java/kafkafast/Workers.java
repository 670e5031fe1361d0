package kafkafast;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;

/** The threads of one {@link Consumer#process} call. */
final class Workers {
    /** How long a worker waits for a message before it looks whether the call is to end. */
    private static final long LOOK_MILLIS = 200;

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
            while (!stopping) {
                Message message = consumer.readMsg(LOOK_MILLIS);
                if (message != null) {
                    handle(message);
                } else if (consumer.isClosed()) {
                    return;
                }
            }
        } catch (InterruptException e) {
            // Somebody interrupted this very thread: it ends, the others go on.
            Log.write(Log.WARN, Log.CONSUMER, "A thread of Consumer.process was interrupted and ends");
        } catch (RuntimeException | Error e) {
            failure.compareAndSet(null, e);
            stopping = true;
        } finally {
            consumer.leave();
        }
    }

    private void handle(Message message) {
        Throwable e = consumer.handle(message, handler);
        if (e == null) {
            return;
        }
        if (consumer.isClosed()) {
            Log.write(Log.INFO, Log.CONSUMER, "Handling " + message + " failed while the consumer closes; it comes again", e);
            return;
        }
        Log.write(Log.WARN, Log.CONSUMER, "Handling " + message + " failed, attempt " + message.getAttempt() + "; it comes again", e);
        if (e instanceof InterruptedException) {
            Thread.currentThread().interrupt();
        }
    }
}
