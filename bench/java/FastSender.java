import kafkafast.BrokerConf;
import kafkafast.KafkaConf;
import kafkafast.Producer;
import kafkafast.ProducerStats;

/** kafka-fast with its own defaults, unless batches are to be large. */
final class FastSender implements Sender {
    private final Producer producer;
    private final String topic;

    FastSender(Options options) {
        topic = options.topic;
        KafkaConf conf = new KafkaConf().set("acks", options.acksAll ? "all" : "1").set("codec", options.codec);
        if (options.tuned) conf.set("batch.size", 1_000_000).set("buffer.memory", 128 << 20);
        if (options.op.equals("latency")) conf.set("linger.ms", 0);
        producer = Producer.connect(conf, new BrokerConf("127.0.0.1", options.port));
    }

    @Override
    public void send(byte[] value) {
        producer.sendMsg(topic, value);
    }

    @Override
    public void flush() {
        producer.flush();
    }

    @Override
    public void check(long sent) {
        ProducerStats stats = producer.stats();
        if (stats.getDeliveredRecords() != sent || stats.getFailedRecords() + stats.getDroppedRecords() > 0) {
            throw new IllegalStateException("of " + sent + " messages sent: " + stats);
        }
    }

    @Override
    public void close() {
        producer.close();
    }
}
