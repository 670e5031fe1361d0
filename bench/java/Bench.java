import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import kafkafast.BrokerConf;
import kafkafast.Consumer;
import kafkafast.KafkaConf;
import kafkafast.Message;
import kafkafast.Producer;
import kafkafast.RedisConf;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * One client, one operation, one record size, in a process of its own: CPU a message and messages a second.
 *
 * <p>Arguments: client (kafka-fast | kafka-clients | admin), operation (produce | consume, of admin create | delete), bytes,
 * messages a window, windows, broker port, topic. The work is done in windows; a JVM is "settled" in the last ones, and CPU is printed with and
 * without its compiler threads, because a JIT that is still busy is the easiest way to fool oneself. One line a window:
 * {@code client operation bytes window messages/s cpu_ns cpu_ns_without_jit}.
 */
public final class Bench {
    private static final int PAYLOADS = 1024;

    private final String client;
    private final int bytes;
    private final int count;
    private final int port;
    private final String topic;

    private Bench(String client, int bytes, int count, int port, String topic) {
        this.client = client;
        this.bytes = bytes;
        this.count = count;
        this.port = port;
        this.topic = topic;
    }

    public static void main(String[] args) throws Exception {
        Locale.setDefault(Locale.ROOT);
        Bench bench = new Bench(args[0], Integer.parseInt(args[2]), Integer.parseInt(args[3]), Integer.parseInt(args[5]), args[6]);
        int windows = Integer.parseInt(args[4]);
        if (args[0].equals("admin")) {
            bench.topic(args[1]);
            return;
        }
        boolean fast = args[0].equals("kafka-fast");
        if (args[1].equals("produce")) {
            if (fast) bench.produceFast(windows); else bench.producePeer(windows);
        } else {
            if (fast) bench.consumeFast(windows); else bench.consumePeer(windows);
        }
    }

    private void topic(String what) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", "localhost:" + port))) {
            if (what.equals("create")) admin.createTopics(List.of(new NewTopic(topic, 4, (short) 1))).all().get();
            else admin.deleteTopics(List.of(topic)).all().get();
        }
    }

    private byte[][] payloads() {
        byte[][] made = new byte[PAYLOADS][bytes];
        for (int i = 0; i < PAYLOADS; i++) {
            for (int j = 0; j < bytes; j++) made[i][j] = (byte) (' ' + (i * 31 + j * 7) % 90);
        }
        return made;
    }

    private void produceFast(int windows) throws Exception {
        byte[][] payloads = payloads();
        try (Producer producer = Producer.connect(new KafkaConf(), new BrokerConf("localhost", port))) {
            for (int w = 0; w < windows; w++) {
                Window window = new Window("produce", w);
                for (int i = 0; i < count; i++) producer.sendMsg(topic, payloads[i & (PAYLOADS - 1)]);
                producer.flush();
                window.end(count);
            }
        }
    }

    private void producePeer(int windows) throws Exception {
        byte[][] payloads = payloads();
        Properties p = new Properties();
        p.put("bootstrap.servers", "localhost:" + port);
        p.put("acks", "1");
        p.put("enable.idempotence", "false");
        p.put("linger.ms", "5");
        p.put("batch.size", "65536");
        p.put("buffer.memory", String.valueOf(64 << 20));
        AtomicLong failed = new AtomicLong();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int w = 0; w < windows; w++) {
                Window window = new Window("produce", w);
                for (int i = 0; i < count; i++) {
                    producer.send(new ProducerRecord<>(topic, payloads[i & (PAYLOADS - 1)]), (m, e) -> {
                        if (e != null) failed.incrementAndGet();
                    });
                }
                producer.flush();
                window.end(count);
            }
        }
        if (failed.get() > 0) throw new IllegalStateException(failed + " sends failed");
    }

    private void consumeFast(int windows) throws Exception {
        long sum = 0;
        for (int w = 0; w < windows; w++) {
            KafkaConf conf = new KafkaConf().set("use-earliest", "true");
            BrokerConf[] brokers = {new BrokerConf("localhost", port)};
            try (Consumer consumer = Consumer.connect(conf, brokers, RedisConf.embedded("bench-" + w), topic)) {
                sum += consumer.readMsg().getBytes().length;
                Window window = new Window("consume", w);
                for (int i = 1; i < count; i++) {
                    Message m = consumer.readMsg(30_000);
                    if (m == null) throw new IllegalStateException("only " + i + " of " + count + " within 30 s");
                    sum += m.getBytes().length;
                }
                window.end(count - 1);
            }
        }
        if (sum != (long) bytes * count * windows) throw new IllegalStateException("read " + sum + " bytes");
    }

    private void consumePeer(int windows) throws Exception {
        Map<String, Object> p = Map.of("bootstrap.servers", "localhost:" + port, "enable.auto.commit", "false");
        long sum = 0;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            var partitions = consumer.partitionsFor(topic).stream().map(i -> new TopicPartition(topic, i.partition())).toList();
            consumer.assign(partitions);
            for (int w = 0; w < windows; w++) {
                consumer.seekToBeginning(partitions);
                Window window = new Window("consume", w);
                int read = 0;
                while (read < count) {
                    for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                        sum += r.value().length;
                        read++;
                    }
                }
                window.end(read);
            }
        }
        if (sum < (long) bytes * count * windows) throw new IllegalStateException("read " + sum + " bytes");
    }

    /** What one window cost. */
    private final class Window {
        private final String operation;
        private final int number;
        private final long started = System.nanoTime();
        private final long cpu = cpuNanos(false);
        private final long jit = cpuNanos(true);

        Window(String operation, int number) throws IOException {
            this.operation = operation;
            this.number = number;
        }

        void end(int messages) throws IOException {
            double seconds = (System.nanoTime() - started) / 1e9;
            double all = cpuNanos(false) - cpu;
            double compiler = cpuNanos(true) - jit;
            System.out.printf("%s %s %d %d %.0f %.0f %.0f%n", client, operation, bytes, number, messages / seconds,
                    all / messages, (all - compiler) / messages);
        }
    }

    /** User and system time of this process in ns (10 ms ticks), or of its compiler threads alone. */
    private static long cpuNanos(boolean compilerOnly) throws IOException {
        if (!compilerOnly) return ticks(Path.of("/proc/self/stat")) * 10_000_000L;
        long sum = 0;
        try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
            for (Path task : tasks) {
                try {
                    String name = Files.readString(task.resolve("comm"));
                    if (name.startsWith("C1 Comp") || name.startsWith("C2 Comp")) sum += ticks(task.resolve("stat"));
                } catch (IOException gone) {
                    // The thread ended between the listing and the look.
                }
            }
        }
        return sum * 10_000_000L;
    }

    private static long ticks(Path stat) throws IOException {
        String text = new String(Files.readAllBytes(stat), StandardCharsets.US_ASCII);
        String[] fields = text.substring(text.lastIndexOf(')') + 2).split(" ");
        return Long.parseLong(fields[11]) + Long.parseLong(fields[12]);
    }
}
