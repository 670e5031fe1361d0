package kakfa_clj.core;

/** {@link kafkafast.Producer} under the name of the documentation of kafka-clj. */
public final class Producer implements AutoCloseable {
    private final kafkafast.Producer producer;

    private Producer(kafkafast.Producer producer) {
        this.producer = producer;
    }

    /**
     * Connects with default settings.
     *
     * @param brokers at least one broker
     * @return the producer
     */
    public static Producer connect(BrokerConf... brokers) {
        return new Producer(kafkafast.Producer.connect(brokers));
    }

    /**
     * Connects.
     *
     * @param conf settings
     * @param brokers at least one broker
     * @return the producer
     */
    public static Producer connect(KafkaConf conf, BrokerConf... brokers) {
        return new Producer(kafkafast.Producer.connect(conf, brokers));
    }

    /**
     * Sends a message, asynchronously; see {@link kafkafast.Producer#sendMsg}.
     *
     * @param topic topic
     * @param msg bytes
     * @return this
     */
    public Producer sendMsg(String topic, byte[] msg) {
        producer.sendMsg(topic, msg);
        return this;
    }

    /** Sends what is buffered and ends the producer. */
    @Override
    public void close() {
        producer.close();
    }
}
