import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** kafka-clients: batches of 64 KB and 5 ms, which suit it better than its defaults, or tuned. */
final class PeerSender implements Sender {
    private final KafkaProducer<byte[], byte[]> producer;
    private final String topic;
    private final AtomicLong failed = new AtomicLong();
    /** Written by the one thread of kafka-clients that completes sends. */
    private volatile long delivered;
    private long counted;
    private final Callback report = (metadata, error) -> {
        if (error == null) counted++;
        else failed.incrementAndGet();
    };

    PeerSender(Options options) {
        topic = options.topic;
        Properties p = new Properties();
        p.put("bootstrap.servers", "127.0.0.1:" + options.port);
        p.put("acks", options.acksAll ? "all" : "1");
        p.put("enable.idempotence", String.valueOf(options.acksAll));
        p.put("compression.type", options.codec);
        p.put("linger.ms", options.op.equals("latency") ? "0" : "5");
        p.put("batch.size", options.tuned ? "1000000" : "65536");
        p.put("buffer.memory", String.valueOf(options.tuned ? 128 << 20 : 64 << 20));
        p.put("enable.metrics.push", "false");
        if (options.tuned) {
            p.put("max.request.size", String.valueOf(8 << 20));
            p.put("send.buffer.bytes", "-1");
            p.put("receive.buffer.bytes", "-1");
        }
        producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    @Override
    public void send(byte[] value) {
        producer.send(new ProducerRecord<>(topic, value), report);
    }

    @Override
    public void flush() {
        producer.flush();
    }

    @Override
    public void check(long sent) {
        if (counted != sent || failed.get() > 0) {
            throw new IllegalStateException("of " + sent + " messages sent " + counted + " were acknowledged and " + failed + " failed");
        }
    }

    @Override
    public void close() {
        producer.close();
    }
}
