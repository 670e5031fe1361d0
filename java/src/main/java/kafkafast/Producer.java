package kafkafast;

import java.lang.ref.Reference;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.IntSupplier;

/**
 * Sends messages. One Producer serves any number of threads; make one and keep it.
 *
 * <p>Sending is asynchronous: a message is copied into a batch and goes when the batch is full or its time has come. A send blocks only
 * while the topic is looked up the first time, and while the buffer ({@code buffer.memory}) is full, at most {@code max.block.ms}.
 * {@link #sendMsg} is the cheapest way; the {@code send} methods give a future.
 *
 * <p>{@link #close()} sends what is buffered. After it every method throws IllegalStateException.
 */
public final class Producer implements AutoCloseable {
    /** A topic and its number in native code. */
    private static final class TopicRef {
        final String name;
        final int id;

        TopicRef(String name, int id) {
            this.name = name;
            this.id = id;
        }
    }

    /** Longest wait of {@link #close()} while {@code delivery.timeout.ms} is unset. */
    private static final long CLOSE_MILLIS = 120_000;

    private final ProducerState state;
    private final long handle;
    private final long closeMillis;
    private final long maxBlockMillis;
    private final ConcurrentHashMap<String, TopicRef> topics = new ConcurrentHashMap<>();
    private volatile TopicRef last;

    private Producer(KafkaConf conf, long handle) {
        this.handle = handle;
        this.state = new ProducerState(handle);
        long timeout = conf.getDeliveryTimeout();
        this.closeMillis = timeout < 0 ? CLOSE_MILLIS : timeout;
        this.maxBlockMillis = conf.getMaxBlock();
    }

    /**
     * Connects with default settings.
     *
     * @param brokers at least one broker; the others are learned from it
     * @return the producer
     * @throws KafkaFastException as {@link #connect(KafkaConf, BrokerConf...)}
     */
    public static Producer connect(BrokerConf... brokers) {
        return connect(new KafkaConf(), brokers);
    }

    /**
     * Connects with default settings.
     *
     * @param bootstrapServers {@code host:port[,host:port...]}
     * @return the producer
     * @throws KafkaFastException as {@link #connect(KafkaConf, BrokerConf...)}
     */
    public static Producer connect(String bootstrapServers) {
        return connect(new KafkaConf().set("bootstrap.servers", bootstrapServers));
    }

    /**
     * Connects. Blocks until a broker has answered, at most {@code metadata-timeout} (10 s).
     *
     * @param conf settings, copied
     * @param brokers brokers asked first; may be empty when conf has {@code bootstrap.servers}
     * @return the producer
     * @throws ConfigException when no broker is named, or settings contradict each other
     * @throws UnreachableException when no broker answers, or what answers is not Kafka
     * @throws InterruptException when the thread is interrupted meanwhile
     * @throws NativeLibraryException when the native library cannot be loaded
     */
    public static Producer connect(KafkaConf conf, BrokerConf... brokers) {
        String settings = conf.forConnect("Producer.connect", brokers);
        Service.acquireLease();
        Producer producer = create(conf, settings);
        Service.enter(producer, producer.state, producer.closeMillis);
        conf.remarks();
        try {
            producer.state.run("Producer.connect", token -> NativeProducer.connect(producer.handle, token));
            return producer;
        } catch (Throwable e) {
            producer.state.startClose(0);
            throw e;
        } finally {
            Reference.reachabilityFence(producer);
        }
    }

    /** Gives the lease back when there is no producer to do it. */
    private static Producer create(KafkaConf conf, String settings) {
        try {
            return new Producer(conf, NativeProducer.create(settings));
        } catch (Throwable e) {
            Service.releaseLease();
            throw e;
        }
    }

    /**
     * Sends a message, asynchronously. Thread safe. Order: messages of one thread to one topic keep their order per partition.
     *
     * @param topic topic; looked up at the first use, and created when the brokers do that
     * @param msg bytes, copied before the method returns; not null
     * @return this
     * @throws IllegalArgumentException for null arguments
     * @throws IllegalStateException after close
     * @throws RecordTooLargeException when the message reaches {@code batch-byte-limit} (and {@code batch-fail-message-over-limit} holds)
     * @throws UnknownTopicException when the topic does not exist and brokers do not create it
     * @throws TimeoutException when there was no room, or no metadata, within {@code max.block.ms}
     * @throws InterruptException when the thread was interrupted while it waited
     */
    public Producer sendMsg(String topic, byte[] msg) {
        if (msg == null) {
            throw new IllegalArgumentException("sendMsg needs bytes. For a tombstone use send(topic, key, null)");
        }
        try {
            TopicRef ref = last;
            // Programs name topics by constants: the same object, most of the time.
            int id = ref != null && ref.name == topic ? ref.id : topicId(topic);
            int code = NativeProducer.send(handle, id, msg, msg.length);
            if (code != NativeProducer.TAKEN) {
                again(code, () -> NativeProducer.send(handle, id, msg, msg.length));
            }
        } finally {
            Reference.reachabilityFence(this);
        }
        return this;
    }

    /**
     * As {@link #sendMsg} with the UTF-8 bytes of a text.
     *
     * @param topic topic
     * @param text text, not null
     * @return this
     */
    public Producer sendText(String topic, String text) {
        if (text == null) {
            throw new IllegalArgumentException("sendText needs a text. For a tombstone use send(topic, key, null)");
        }
        return sendMsg(topic, text.getBytes(StandardCharsets.UTF_8));
    }

    /**
     * Sends a message with a key and tells what became of it. Messages of one key go to one partition, chosen as kafka-clients does.
     *
     * @param topic topic
     * @param key key, or null
     * @param value value, or null for a tombstone
     * @return a future of the message's place; see {@link #send(ProducerRecord)}
     */
    public CompletableFuture<RecordMetadata> send(String topic, byte[] key, byte[] value) {
        return sendTracked(topic, -1, -1, key, value, null);
    }

    /**
     * Sends a record and tells what became of it.
     *
     * <p>The future is completed on one thread of this library: a callback that blocks delays other callbacks, never sending. Waiting by
     * {@code get} or {@code join} sends the open batches at once. It fails with a {@link KafkaFastException} that says whether the
     * record may have been written.
     *
     * @param record the record; its bytes are copied before the method returns
     * @return a future of the record's place
     * @throws KafkaFastException as {@link #sendMsg}; also {@link InvalidRecordException} for a partition the topic has not
     */
    public CompletableFuture<RecordMetadata> send(ProducerRecord<byte[], byte[]> record) {
        if (record == null) {
            throw new IllegalArgumentException("send needs a record");
        }
        int partition = record.partition() == null ? -1 : record.partition();
        long timestamp = record.timestamp() == null ? -1 : record.timestamp();
        return sendTracked(record.topic(), partition, timestamp, record.key(), record.value(), Headers.encode(record.headers()));
    }

    private CompletableFuture<RecordMetadata> sendTracked(String topic, int partition, long timestamp, byte[] key, byte[] value, byte[] headers) {
        try {
            int id = topicId(topic);
            Delivery<RecordMetadata> delivery = new Delivery<>(this, topic);
            long token = Service.register(delivery);
            boolean taken = false;
            try {
                IntSupplier attempt = () -> NativeProducer.sendRecord(handle, id, partition, timestamp, key, length(key), value, length(value),
                    headers, length(headers), token);
                int code = attempt.getAsInt();
                if (code != NativeProducer.TAKEN) {
                    again(code, attempt);
                }
                taken = true;
                return delivery;
            } finally {
                if (!taken) {
                    Service.forget(token);
                }
            }
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    private static int length(byte[] bytes) {
        return bytes == null ? -1 : bytes.length;
    }

    /** The slow way of a send: waits for room, or throws what the code means. */
    private void again(int firstCode, IntSupplier attempt) {
        long start = System.nanoTime();
        Thread me = Thread.currentThread();
        Service.Parker parker = () -> LockSupport.unpark(me);
        long token = Service.register(parker);
        long room = 0;
        try {
            room = NativeProducer.openRoom(token);
            int code = firstCode;
            while (code != NativeProducer.TAKEN) {
                if (code == NativeProducer.CLOSED) {
                    throw state.closedError();
                }
                // Register, try again, park: room made in between is seen by the try or unparks us.
                boolean worth = NativeProducer.pollRoom(handle, room, NativeProducer.FULL - code);
                code = attempt.getAsInt();
                if (code == NativeProducer.TAKEN || code == NativeProducer.CLOSED) {
                    continue;
                }
                if (Thread.interrupted()) {
                    throw new InterruptException("Interrupted while waiting for room in the producer's buffer");
                }
                long left = TimeUnit.MILLISECONDS.toNanos(maxBlockMillis) - (System.nanoTime() - start);
                if (left <= 0) {
                    throw new TimeoutException(NativeProducer.fullText(handle));
                }
                if (!worth) {
                    LockSupport.parkNanos(this, Math.min(left, Op.SLICE));
                }
            }
        } finally {
            NativeProducer.closeRoom(room);
            Service.forget(token);
        }
    }

    private int topicId(String topic) {
        if (topic == null) {
            throw new IllegalArgumentException("A message needs a topic");
        }
        TopicRef ref = topics.get(topic);
        if (ref == null) {
            int id = NativeProducer.cachedTopic(handle, topic);
            if (id == NativeProducer.CLOSED) {
                if (state.isClosed()) {
                    throw state.closedError();
                }
                id = (int) state.run("the metadata of topic \"" + topic + "\"", token -> NativeProducer.lookupTopic(handle, topic, token));
            }
            ref = new TopicRef(topic, id);
            topics.put(topic, ref);
        }
        last = ref;
        return ref.id;
    }

    /** Sends the open batches at once, without waiting. */
    void startFlush() {
        try {
            NativeProducer.startFlush(handle);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Sends everything taken so far and waits until it is acknowledged or has failed, without limit.
     *
     * @throws IllegalStateException after close
     * @throws InterruptException when the thread is interrupted meanwhile
     */
    public void flush() {
        flush(Long.MAX_VALUE);
    }

    /**
     * Sends everything taken so far and waits until it is acknowledged or has failed.
     *
     * @param timeout longest wait
     * @throws TimeoutException when the time is over first
     * @throws IllegalStateException after close
     * @throws InterruptException when the thread is interrupted meanwhile
     */
    public void flush(Duration timeout) {
        flush(Times.millis(timeout));
    }

    /**
     * Sends everything taken so far and waits until it is acknowledged or has failed. The futures of those records are completed when this
     * returns, unless a callback blocks.
     *
     * @param timeoutMillis longest wait in milliseconds
     * @throws TimeoutException when the time is over first
     * @throws IllegalStateException after close
     * @throws InterruptException when the thread is interrupted meanwhile
     */
    public void flush(long timeoutMillis) {
        try {
            if (state.isClosed()) {
                throw state.closedError();
            }
            long start = System.nanoTime();
            state.run("Producer.flush", token -> NativeProducer.flush(handle, token, Math.max(timeoutMillis, 0)));
            long left = Times.nanos(timeoutMillis) - (System.nanoTime() - start);
            Callbacks.awaitProcessed(Math.min(left, TimeUnit.SECONDS.toNanos(10)));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * What the producer has done so far; also after close.
     *
     * @return a snapshot
     */
    public ProducerStats stats() {
        try {
            return ProducerStats.read(handle);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Sends what is buffered, at most {@code delivery.timeout.ms} (120 s while that is unset), and ends the producer. A second call does nothing; a call
     * while another thread closes waits for that.
     *
     * @throws TimeoutException when records could not be sent in that time; it says how many
     * @throws InterruptException when the thread is interrupted; closing goes on in the background
     */
    @Override
    public void close() {
        close(closeMillis);
    }

    /**
     * As {@link #close()} with a time of its own.
     *
     * @param timeout longest time for what is buffered; zero drops it
     */
    public void close(Duration timeout) {
        close(Times.millis(timeout));
    }

    /**
     * As {@link #close()} with a time of its own.
     *
     * @param timeoutMillis longest time for what is buffered, in milliseconds; 0 drops it
     */
    public void close(long timeoutMillis) {
        try {
            state.close(Math.max(timeoutMillis, 0));
            Callbacks.awaitProcessed(TimeUnit.SECONDS.toNanos(1));
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** For tests: a panic inside native code that holds this handle. */
    void panicForTest() {
        NativeProducer.panicForTest(handle);
    }
}
