import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** kafka-clients, all partitions assigned, nothing committed. */
final class PeerReader implements Reader {
    private static final int PATIENCE_S = 30;

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final List<TopicPartition> partitions;

    PeerReader(Options options) {
        // A fetch that waits at the end of the topic, where each window ends, would hold the next window up for half a second.
        Map<String, Object> p = Map.of("bootstrap.servers", "127.0.0.1:" + options.port, "enable.auto.commit", "false", "enable.metrics.push", "false",
            "fetch.max.wait.ms", options.op.equals("consume") ? "20" : "500");
        consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        partitions = consumer.partitionsFor(options.topic).stream().map(i -> new TopicPartition(options.topic, i.partition())).toList();
        consumer.assign(partitions);
    }

    @Override
    public void fromBeginning(int window) {
        consumer.seekToBeginning(partitions);
    }

    @Override
    public void fromEnd() {
        consumer.seekToEnd(partitions);
        // Asked for now and not with the first poll.
        partitions.forEach(consumer::position);
    }

    @Override
    public long read(int count) {
        long sum = 0;
        int read = 0;
        while (read < count) {
            ConsumerRecords<byte[], byte[]> records = poll(read, count);
            for (ConsumerRecord<byte[], byte[]> r : records) sum += r.value().length;
            read += records.count();
        }
        return sum;
    }

    @Override
    public void each(int count, Consumer<byte[]> taker) {
        int read = 0;
        while (read < count) {
            ConsumerRecords<byte[], byte[]> records = poll(read, count);
            for (ConsumerRecord<byte[], byte[]> r : records) taker.accept(r.value());
            read += records.count();
        }
    }

    private ConsumerRecords<byte[], byte[]> poll(int read, int count) {
        for (int i = 0; i < PATIENCE_S; i++) {
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(1));
            if (!records.isEmpty()) return records;
        }
        throw new IllegalStateException("only " + read + " of " + count + " messages, and no more within " + PATIENCE_S + " s");
    }

    @Override
    public void close() {
        consumer.close();
    }
}
