package kafkafast;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * The future of a record, and the stages made from it. Waiting in {@code get} or {@code join} sends the open batch at once: a program
 * that waits for each record should not wait for the linger as well.
 */
final class Delivery<T> extends CompletableFuture<T> {
    private volatile Producer producer;
    final String topic;

    Delivery(Producer producer, String topic) {
        this.producer = producer;
        this.topic = topic;
    }

    private void hurry() {
        Producer p = producer;
        if (p == null) {
            return;
        }
        if (isDone()) {
            producer = null;
        } else {
            p.startFlush();
        }
    }

    @Override
    public T get() throws InterruptedException, ExecutionException {
        hurry();
        return super.get();
    }

    @Override
    public T get(long timeout, TimeUnit unit) throws InterruptedException, ExecutionException, java.util.concurrent.TimeoutException {
        hurry();
        return super.get(timeout, unit);
    }

    @Override
    public T join() {
        hurry();
        return super.join();
    }

    /** Lets go of the producer: a kept future must not keep it. */
    void done() {
        producer = null;
    }

    @Override
    public <U> CompletableFuture<U> newIncompleteFuture() {
        return new Delivery<>(producer, topic);
    }
}
