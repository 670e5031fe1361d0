package kafkafast;

import java.lang.ref.Reference;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Objects;

/**
 * Reads messages as a member of a group. All methods are thread safe; each thread that reads has a place of its own.
 *
 * <p>A group shares work units, not partitions: any number of threads and consumers may read, also of one partition. Delivery is at least
 * once. <b>Asking for the next message acknowledges the one before</b>, and nothing else does: a thread that dies, a loop that is left
 * by an exception, and {@link #close()} hand the message back, and it comes again, here or elsewhere. A handler of {@link #process} or
 * {@link #forEachView(int, long, ViewHandler)} cannot ask its own consumer for another message: that would acknowledge the one in its
 * hands, and is an {@link IllegalStateException}.
 *
 * <pre>{@code
 * try (Consumer consumer = Consumer.connect("localhost:9092", RedisConf.embedded("my-group"), "my-topic")) {
 *     for (Message message : consumer) { ... }            // one thread; ends when another thread closes
 *     consumer.process(16, message -> ...);               // or sixteen: returns = acknowledged, throws = comes again
 * }
 * }</pre>
 *
 * <p>A topic that the user may not read stops nobody: a warning in the log says what to grant, once a minute at most,
 * {@link ConsumerStats#getTopicsDenied()} counts such topics, the others are read on, and it is read within 30 s after the right was granted.
 */
public final class Consumer implements Iterable<Message>, AutoCloseable {
    private final ConsumerState state;
    private final long handle;
    private final Reading reading;

    private Consumer(long handle) {
        this.handle = handle;
        this.state = new ConsumerState(handle);
        this.reading = new Reading(state);
    }

    /**
     * Joins a group with default settings.
     *
     * @param bootstrapServers {@code host:port[,host:port...]}
     * @param group the group
     * @param topics at least one topic
     * @return the consumer
     * @throws KafkaFastException as {@link #connect(KafkaConf, BrokerConf[], RedisConf, String...)}
     */
    public static Consumer connect(String bootstrapServers, RedisConf group, String... topics) {
        return connect(new KafkaConf().set("bootstrap.servers", bootstrapServers), new BrokerConf[0], group, topics);
    }

    /**
     * Joins a group. When this returns the start of every partition is fixed: what is produced afterwards is read. A partition without a
     * committed offset starts at its end, or with {@code use-earliest} at its earliest message.
     *
     * <p>Blocks until a broker has answered and the starts are known, at most about {@code metadata-timeout} for each. A partition without a
     * leader, or whose leader does not answer within a few seconds, is no error if another one can be read or the group knows its positions:
     * a warning names it, {@link ConsumerStats#getPartitionsPending()} counts it, and it follows when its leader answers, from where its log
     * ended when this was called, by the timestamps of its messages and a minute earlier.
     *
     * @param conf settings, copied
     * @param brokers brokers asked first; may be null or empty when conf has {@code bootstrap.servers}
     * @param redis the group and where its state lives; {@link RedisConf#embedded(String)} needs no server
     * @param topics at least one topic
     * @return the consumer
     * @throws ConfigException when no broker is named, or settings contradict each other or those of the group's other members, or Redis is none that can
     *     hold a group, or refuses the user
     * @throws GroupException when the group is of another Kafka cluster; see {@link #deleteGroup}
     * @throws UnreachableException when no broker answers, or what answers is not Kafka, or Redis does not answer
     * @throws UnknownTopicException when a topic does not exist and brokers do not create it
     * @throws InterruptException when the thread is interrupted meanwhile
     * @throws NativeLibraryException when the native library cannot be loaded
     */
    public static Consumer connect(KafkaConf conf, BrokerConf[] brokers, RedisConf redis, String... topics) {
        if (redis == null) {
            throw new IllegalArgumentException("Consumer.connect needs a group, e.g. RedisConf.embedded(\"my-group\")");
        }
        String names = joined("Consumer.connect", topics);
        String settings = conf.forConnect("Consumer.connect", brokers == null ? new BrokerConf[0] : brokers);
        Service.acquireLease();
        Consumer consumer = create(settings, redis.forConnect());
        Service.enter(consumer, consumer.state, 0);
        conf.remarks();
        redis.remarks();
        try {
            consumer.state.run("Consumer.connect", token -> NativeConsumer.connect(consumer.handle, names, token));
            return consumer;
        } catch (Throwable e) {
            consumer.state.startClose(0);
            throw e;
        } finally {
            Reference.reachabilityFence(consumer);
        }
    }

    /**
     * Forgets a group and its positions, whoever made it: also one of another Kafka cluster, which is the way out when Kafka was set up anew,
     * and one that is not there. Its consumers fail with a {@link GroupException} that says so; who connects next makes the group anew. Of an
     * embedded group that is what lives in this process.
     *
     * <p>What the group has committed to Kafka stays. Made anew on the same cluster it goes on from there, unless those offsets are deleted too
     * ({@code kafka-consumer-groups --delete --group}).
     *
     * <p>Blocks until Redis has answered, at most about ten times {@link RedisConf#setTimeout}. It may be repeated.
     *
     * @param group the group and where its state lives
     * @throws ConfigException when what is there is none that can hold a group, or refuses the user
     * @throws UnreachableException when Redis does not answer
     * @throws InterruptException when the thread is interrupted meanwhile; the group may be deleted all the same
     * @throws NativeLibraryException when the native library cannot be loaded
     */
    public static void deleteGroup(RedisConf group) {
        if (group == null) {
            throw new IllegalArgumentException("Consumer.deleteGroup needs a group, e.g. RedisConf.embedded(\"my-group\")");
        }
        Service.runAlone("Consumer.deleteGroup", token -> NativeConsumer.deleteGroup(group.forConnect(), token));
    }

    /** Gives the lease back when there is no consumer to do it. */
    private static Consumer create(String settings, String group) {
        try {
            return new Consumer(NativeConsumer.create(settings, group));
        } catch (Throwable e) {
            Service.releaseLease();
            throw e;
        }
    }

    private static String joined(String operation, String... topics) {
        if (topics == null || topics.length == 0) {
            throw new IllegalArgumentException(operation + " needs at least one topic");
        }
        for (String topic : topics) {
            if (topic == null) {
                throw new IllegalArgumentException(operation + ": a topic must not be null");
            }
            // Native takes them joined by it.
            if (topic.indexOf('\0') >= 0) {
                throw new InvalidTopicException(operation + ": a topic cannot hold the character NUL");
            }
        }
        return String.join("\0", topics);
    }

    /**
     * The next message; waits for it without limit. Acknowledges the one this thread had before.
     *
     * @return the message; null when the consumer is closed
     * @throws InterruptException when the thread is interrupted while it waits
     * @throws GroupException when the group refuses this consumer for good
     * @throws OutOfMemoryError when the heap has no room for the message: it has failed as in {@link #process}, and comes again
     */
    public Message readMsg() {
        return readMsg(Long.MAX_VALUE);
    }

    /**
     * The next message. Acknowledges the one this thread had before, also when the answer is null.
     *
     * @param timeoutMillis longest wait in milliseconds; 0 looks once
     * @return the message; null when the time is over or the consumer is closed
     * @throws InterruptException when the thread is interrupted while it waits
     * @throws GroupException when the group refuses this consumer for good
     */
    public Message readMsg(long timeoutMillis) {
        try {
            return reading.next(timeoutMillis);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * As {@link #readMsg(long)}.
     *
     * @param timeout longest wait
     * @return the message; null when the time is over or the consumer is closed
     */
    public Message readMsg(Duration timeout) {
        return readMsg(Times.millis(timeout));
    }

    /**
     * Several messages at once, of one partition, as many as there are ready: waits for the first one only. Acknowledges all this thread
     * had before; the next ask acknowledges all of these.
     *
     * @param max most messages, at least 1
     * @param timeoutMillis longest wait for the first, in milliseconds
     * @return the messages; empty when the time is over or the consumer is closed
     * @throws InterruptException when the thread is interrupted while it waits
     */
    public List<Message> readBatch(int max, long timeoutMillis) {
        if (max < 1) {
            throw new IllegalArgumentException("readBatch needs room for at least one message, got " + max);
        }
        try {
            return reading.batch(max, timeoutMillis);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * As {@link #readBatch(int, long)}.
     *
     * @param max most messages, at least 1
     * @param timeout longest wait for the first
     * @return the messages; empty when the time is over or the consumer is closed
     */
    public List<Message> readBatch(int max, Duration timeout) {
        return readBatch(max, Times.millis(timeout));
    }

    /**
     * Shows messages in place, without copying them: the cheapest way to read. Waits for the first one only. The handler's return acknowledges a message as asking for
     * the next one does; the last one is acknowledged by this thread's next ask. A message whose handler throws is never acknowledged: it comes
     * again as in {@link #process}, with what is behind it in its unit, and the exception ends this call.
     *
     * @param max most messages, at least 1
     * @param timeoutMillis longest wait for the first, in milliseconds
     * @param handler called with each message; what it sees is valid inside the call only, and it must not ask this consumer for messages
     * @return how many messages were shown
     * @throws KafkaFastException what the handler threw, as the cause, unless that is unchecked
     * @throws InterruptException when the thread is interrupted while it waits
     * @throws GroupException when the group refuses this consumer for good
     * @throws IllegalStateException in a handler of this consumer: return from it instead
     */
    public int forEachView(int max, long timeoutMillis, ViewHandler handler) {
        try {
            return reading.show(max, timeoutMillis, handler);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * As {@link #forEachView(int, long, ViewHandler)}.
     *
     * @param max most messages, at least 1
     * @param timeout longest wait for the first
     * @param handler called with each message
     * @return how many messages were shown
     */
    public int forEachView(int max, Duration timeout, ViewHandler handler) {
        return forEachView(max, Times.millis(timeout), handler);
    }

    /**
     * Works on messages with so many threads until the consumer is closed: a handler that returns acknowledges its message, one that
     * throws makes it come again after a back-off, and after {@code max-attempts} it is set aside with a warning. What a handler throws while
     * the consumer closes is no failed attempt: its message is handed back as it is. Whatever a handler throws, errors of the JVM too, and a
     * message for which the heap has no room, are failures of that message: the threads go on with others. The interrupt flag of these threads is
     * cleared before each message.
     *
     * <p>Blocks the caller until another thread closes the consumer, or the caller is interrupted: then handlers finish the message they
     * are on and the rest is left to others. The threads are daemons of this call and end with it.
     *
     * @param threads how many, at least 1; more than partitions is fine
     * @param handler called by all of them; it must not ask this consumer for messages
     * @throws IllegalStateException after close
     * @throws InterruptException when the caller is interrupted
     * @throws GroupException when the group refuses this consumer for good
     */
    public void process(int threads, Handler handler) {
        if (threads < 1 || handler == null) {
            throw new IllegalArgumentException("process needs a handler and at least one thread, got " + threads);
        }
        if (state.isClosed()) {
            throw state.closedError();
        }
        new Workers(this, threads, handler).run();
    }

    /** Runs a handler on the message in hand of this thread. What it throws is returned: the message has gone back then. Null when it returned. */
    Throwable handle(Message message, Handler handler) {
        try {
            return reading.handle(message, handler);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** This thread reads no more: what its handler returned from is handled, the rest goes back. */
    void leave() {
        try {
            reading.leave();
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    boolean isClosed() {
        return state.isClosed();
    }

    /**
     * Messages one after the other, for any number of threads: each thread gets messages of its own. {@code hasNext} blocks until a
     * message is reserved for the calling thread, and so acknowledges the one before; it is false when the consumer is closed.
     *
     * @return an iterator that does not end before the consumer is closed
     */
    @Override
    public Iterator<Message> iterator() {
        return new Iterator<Message>() {
            @Override
            public boolean hasNext() {
                try {
                    return reading.hasNext();
                } finally {
                    Reference.reachabilityFence(Consumer.this);
                }
            }

            @Override
            public Message next() {
                Message message = readMsg();
                if (message == null) {
                    throw new NoSuchElementException(state.closedError().getMessage());
                }
                return message;
            }
        };
    }

    /**
     * Reads further topics from now on. When this returns the start of their partitions is fixed.
     *
     * @param topics at least one topic
     * @throws UnknownTopicException when a topic does not exist and brokers do not create it
     * @throws IllegalStateException after close
     */
    public void addTopics(String... topics) {
        changeTopics(true, "Consumer.addTopics", topics);
    }

    /**
     * Reads topics no more. Messages that were fetched already may still come.
     *
     * @param topics at least one topic; one that is not read is ignored
     * @throws IllegalStateException after close
     */
    public void removeTopics(String... topics) {
        changeTopics(false, "Consumer.removeTopics", topics);
    }

    private void changeTopics(boolean add, String operation, String... topics) {
        String names = joined(operation, topics);
        try {
            if (state.isClosed()) {
                throw state.closedError();
            }
            state.run(operation, token -> NativeConsumer.changeTopics(handle, add, names, token));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * What is quarantined of this consumer's topics, for the whole group: messages that failed too often and batches that cannot be read, in
     * order of topic, partition and offset. What is being tried again at this moment is not among them.
     *
     * @return a list of its own; at most 1024 entries a partition
     * @throws KafkaFastException when the group is not reached
     * @throws IllegalStateException after close
     */
    public List<Quarantined> quarantined() {
        try {
            if (state.isClosed()) {
                throw state.closedError();
            }
            long number = state.run("Consumer.quarantined", token -> NativeConsumer.quarantined(handle, token));
            return Quarantined.parse(NativeConsumer.listed(handle, number));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Delivers the quarantined unit that holds a message again, to any consumer of the group, with all attempts.
     *
     * @param topic the topic
     * @param partition the partition
     * @param offset the message, or any other of its unit
     * @return false when no such unit is quarantined: it may be handled by now, or be tried again at this moment
     * @throws KafkaFastException when the group is not reached; it may be released all the same
     * @throws IllegalStateException after close
     */
    public boolean release(String topic, int partition, long offset) {
        Objects.requireNonNull(topic, "Consumer.release: topic must not be null");
        try {
            if (state.isClosed()) {
                throw state.closedError();
            }
            return state.run("Consumer.release", token -> NativeConsumer.unpark(handle, topic, partition, offset, token)) == 1;
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Moves the group to an offset, for all its members: the next messages of that partition begin there. Back repeats messages, forward skips
     * them. Works while members read, and when this returns Kafka knows it too, where the group is mirrored. A message that a thread has in its
     * hands is handled to its end and counts for nothing; other members hand out what they had fetched until they hear of it, within their
     * heartbeat.
     *
     * @param topic a topic that the group has read
     * @param partition the partition, from 0
     * @param offset where to go on: an offset of the log, or its end
     * @throws InvalidRecordException when there is no such partition, the group does not read it, or the offset is outside the log, whose ends the
     *     text names
     * @throws UnknownTopicException when the topic does not exist
     * @throws KafkaFastException when the brokers, or the group, are away, or the new position could not be committed to Kafka
     * @throws IllegalStateException after close
     */
    public void seek(String topic, int partition, long offset) {
        String name = joined("Consumer.seek", topic);
        try {
            if (state.isClosed()) {
                throw state.closedError();
            }
            state.run("Consumer.seek", token -> NativeConsumer.seek(handle, name, partition, offset, token));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * What the consumer has done so far; also after close.
     *
     * @return a snapshot
     */
    public ConsumerStats stats() {
        try {
            return ConsumerStats.read(handle);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Hands back what threads still hold, tells the group what was handled, and ends the consumer. Threads that read get null, loops end.
     * A second call does nothing.
     *
     * @throws TimeoutException when the group could not be told in 10 s: what was handled lately may come again
     * @throws InterruptException when the thread is interrupted; closing goes on in the background
     */
    @Override
    public void close() {
        close(0);
    }

    /**
     * As {@link #close()}, but first waits for threads that hold a message: one that asks for the next is told that there is none, and
     * its last message counts as handled.
     *
     * @param wait longest wait for them
     */
    public void close(Duration wait) {
        close(Times.millis(wait));
    }

    /**
     * As {@link #close(Duration)}.
     *
     * @param waitMillis longest wait for threads that hold a message, in milliseconds
     */
    public void close(long waitMillis) {
        try {
            state.close(Math.max(waitMillis, 0));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** For tests: a panic inside native code that holds this handle. */
    void panicForTest() {
        NativeConsumer.panicForTest(handle);
    }
}
