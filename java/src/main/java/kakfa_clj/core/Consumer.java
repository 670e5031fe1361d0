package kakfa_clj.core;

import java.util.Iterator;

/** {@link kafkafast.Consumer} under the name of the documentation of kafka-clj. */
public final class Consumer implements Iterable<Message>, AutoCloseable {
    private final kafkafast.Consumer consumer;

    private Consumer(kafkafast.Consumer consumer) {
        this.consumer = consumer;
    }

    /**
     * Joins a group; see {@link kafkafast.Consumer#connect(kafkafast.KafkaConf, kafkafast.BrokerConf[], kafkafast.RedisConf, String...)}.
     *
     * @param conf settings
     * @param brokers at least one broker
     * @param redis the group, also {@link kafkafast.RedisConf#embedded(String)}
     * @param topics at least one topic
     * @return the consumer
     */
    public static Consumer connect(KafkaConf conf, BrokerConf[] brokers, kafkafast.RedisConf redis, String... topics) {
        return new Consumer(kafkafast.Consumer.connect(conf, brokers, redis, topics));
    }

    private static Message wrap(kafkafast.Message message) {
        return message == null ? null : new Message(message);
    }

    /**
     * The next message; acknowledges the one this thread had before.
     *
     * @return the message; null when the consumer is closed
     */
    public Message readMsg() {
        return wrap(consumer.readMsg());
    }

    /**
     * The next message; acknowledges the one this thread had before.
     *
     * @param timeoutMillis longest wait in milliseconds
     * @return the message; null when the time is over
     */
    public Message readMsg(long timeoutMillis) {
        return wrap(consumer.readMsg(timeoutMillis));
    }

    /**
     * Reads further topics from now on.
     *
     * @param topics at least one topic
     */
    public void addTopics(String... topics) {
        consumer.addTopics(topics);
    }

    /**
     * Reads topics no more.
     *
     * @param topics at least one topic
     */
    public void removeTopics(String... topics) {
        consumer.removeTopics(topics);
    }

    /**
     * Messages one after the other; thread safe.
     *
     * @return an iterator that does not end before the consumer is closed
     */
    @Override
    public Iterator<Message> iterator() {
        Iterator<kafkafast.Message> messages = consumer.iterator();
        return new Iterator<Message>() {
            @Override
            public boolean hasNext() {
                return messages.hasNext();
            }

            @Override
            public Message next() {
                return wrap(messages.next());
            }
        };
    }

    /** Hands back what threads still hold and ends the consumer. */
    @Override
    public void close() {
        consumer.close();
    }
}
