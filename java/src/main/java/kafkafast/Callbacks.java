package kafkafast;

import java.util.ArrayDeque;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * The thread that completes futures, and so runs what programs hang on them, and that writes log lines: one daemon thread a process,
 * started when there is something to do. A callback that blocks delays other callbacks and nothing else; the service thread never runs code of the user.
 *
 * <p>What may wait here is bounded by the records the producers' memory holds.
 */
final class Callbacks implements Runnable {
    private static final ReentrantLock LOCK = new ReentrantLock();
    private static final Condition CHANGED = LOCK.newCondition();
    private static final ArrayDeque<List<Runnable>> QUEUE = new ArrayDeque<>();
    private static Thread thread;
    private static boolean ending;
    private static long submitted;
    private static long processed;

    private Callbacks() {}

    /** Called by the service thread. */
    static void submit(List<Runnable> completions) {
        LOCK.lock();
        try {
            QUEUE.add(completions);
            submitted++;
            ending = false;
            start();
            CHANGED.signalAll();
        } finally {
            LOCK.unlock();
        }
    }

    /** A turn of the service thread: where no thread could be started for what waits here, one may be now. */
    static void turn() {
        LOCK.lock();
        try {
            if (!QUEUE.isEmpty()) {
                start();
            }
        } finally {
            LOCK.unlock();
        }
    }

    private static void start() {
        if (thread != null) {
            return;
        }
        try {
            Thread t = new Thread(null, new Callbacks(), "kafkafast-callbacks", 0, false);
            t.setDaemon(true);
            t.setContextClassLoader(null);
            t.start();
            thread = t;
        } catch (OutOfMemoryError e) {
            // The process has as many threads as it may have: the next turn tries again.
        }
    }

    /** Lets the thread end when its queue is empty. */
    static void end() {
        LOCK.lock();
        try {
            ending = true;
            CHANGED.signalAll();
        } finally {
            LOCK.unlock();
        }
    }

    /** Waits until what was submitted before has been completed, so that after a flush the futures are done. Not on this thread itself. */
    static void awaitProcessed(long nanos) {
        LOCK.lock();
        try {
            long target = submitted;
            long left = nanos;
            while (processed < target && thread != null && Thread.currentThread() != thread && left > 0) {
                left = CHANGED.awaitNanos(left);
            }
        } catch (InterruptedException e) {
            throw new InterruptException("Interrupted while waiting for callbacks");
        } finally {
            LOCK.unlock();
        }
    }

    @Override
    public void run() {
        while (true) {
            List<Runnable> completions;
            LOCK.lock();
            try {
                while (QUEUE.isEmpty()) {
                    if (ending) {
                        thread = null;
                        return;
                    }
                    CHANGED.awaitNanos(TimeUnit.SECONDS.toNanos(1));
                }
                completions = QUEUE.poll();
            } catch (InterruptedException e) {
                continue;
            } finally {
                LOCK.unlock();
            }
            completions.forEach(Callbacks::complete);
            LOCK.lock();
            try {
                processed++;
                CHANGED.signalAll();
            } finally {
                LOCK.unlock();
            }
        }
    }

    /** Runs one; again for as long as there is no memory for it, or a future would never be done. */
    private static void complete(Runnable completion) {
        while (true) {
            try {
                completion.run();
                return;
            } catch (OutOfMemoryError e) {
                LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(10));
            } catch (Throwable e) {
                // CompletableFuture keeps what callbacks throw.
                Log.write(Log.ERROR, Log.PRODUCER, "A delivery callback failed", e);
                return;
            }
        }
    }
}
