package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** kafka-clients, as a user of the broker beside us. */
final class Strangers implements AutoCloseable {
    private final String address;
    private final Admin admin;

    Strangers(BrokerConf broker) {
        address = broker.getHost() + ":" + broker.getPort();
        admin = Admin.create(Map.of("bootstrap.servers", address));
    }

    /** A new topic; settings are names and values in turn. */
    String topic(String what, int partitions, String... settings) throws Exception {
        String topic = Tools.topic(what);
        NewTopic created = new NewTopic(topic, partitions, (short) 1).configs(map(settings));
        admin.createTopics(Collections.singleton(created)).all().get(30, TimeUnit.SECONDS);
        // What is sent with acks=0 is lost on a leader that does not know yet that it is one.
        awaitEnd(topic, partitions, 0);
        return topic;
    }

    /** Waits until the ends of the partitions add up to so much. */
    void awaitEnd(String topic, int partitions, long sum) throws InterruptedException {
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++) {
            ends.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        }
        Tools.await(sum + " records in " + topic, 20_000, () -> {
            try {
                return admin.listOffsets(ends).all().get(30, TimeUnit.SECONDS).values().stream().mapToLong(end -> end.offset()).sum() >= sum;
            } catch (ExecutionException e) {
                // The topic is new.
                return false;
            } catch (InterruptedException | TimeoutException e) {
                throw new AssertionError(e);
            }
        });
    }

    private static Map<String, String> map(String... settings) {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < settings.length; i += 2) {
            map.put(settings[i], settings[i + 1]);
        }
        return map;
    }

    /** The log of partition 0 begins at {@code offset} from now on. */
    void deleteBefore(String topic, long offset) throws Exception {
        admin.deleteRecords(Map.of(new TopicPartition(topic, 0), RecordsToDelete.beforeOffset(offset))).all().get(30, TimeUnit.SECONDS);
    }

    /** Everything in a topic, transactions open and aborted included, by partition and offset. */
    List<Row> read(String topic) {
        return read(topic, "read_uncommitted", TimestampType.CREATE_TIME);
    }

    List<Row> read(String topic, String isolation, TimestampType times) {
        Map<String, Object> conf = new HashMap<>(map("bootstrap.servers", address, "isolation.level", isolation, "fetch.max.wait.ms", "10"));
        List<Row> rows = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream().map(p -> new TopicPartition(topic, p.partition()))
                .collect(Collectors.toList());
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                assertTrue("kafka-clients does not come to the end of " + ends, System.nanoTime() < deadline);
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    assertEquals("offset " + record.offset(), times, record.timestampType());
                    rows.add(Row.of(record));
                }
            }
        }
        rows.sort(Row.ORDER);
        return rows;
    }

    Sender sender(String... settings) {
        return new Sender(map(settings));
    }

    @Override
    public void close() {
        admin.close(Duration.ofSeconds(5));
    }

    /** A producer of kafka-clients that notes what it has sent. */
    final class Sender implements AutoCloseable {
        final KafkaProducer<byte[], byte[]> producer;
        private final List<Row> sent = new ArrayList<>();
        private final List<Future<org.apache.kafka.clients.producer.RecordMetadata>> places = new ArrayList<>();

        private Sender(Map<String, String> settings) {
            Map<String, Object> conf = new HashMap<>(settings);
            conf.put("bootstrap.servers", address);
            producer = new KafkaProducer<>(conf, new ByteArraySerializer(), new ByteArraySerializer());
            if (settings.containsKey("transactional.id")) {
                producer.initTransactions();
            }
        }

        /** Sends what a row says but for its offset. */
        void send(String topic, Row row) {
            List<org.apache.kafka.common.header.Header> headers =
                row.headers.stream().map(h -> new RecordHeader(h.key(), h.value())).collect(Collectors.toList());
            Long timestamp = row.timestamp < 0 ? null : row.timestamp;
            places.add(producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, row.partition, timestamp, row.key, row.value,
                headers)));
            sent.add(row);
        }

        /** What was sent since the last call, with the places it has in the log. */
        List<Row> flush() throws Exception {
            producer.flush();
            List<Row> placed = new ArrayList<>();
            for (int i = 0; i < sent.size(); i++) {
                org.apache.kafka.clients.producer.RecordMetadata at = places.get(i).get(30, TimeUnit.SECONDS);
                assertNotNull(at);
                Row row = sent.get(i);
                placed.add(new Row(at.partition(), at.offset(), at.timestamp(), row.key, row.value, row.headers));
            }
            sent.clear();
            places.clear();
            return placed;
        }

        @Override
        public void close() {
            producer.close(Duration.ofSeconds(10));
        }
    }

    /** A live member of a group of Kafka's own, which has its partitions when this returns. */
    static AutoCloseable member(String group, String topic) throws Exception {
        BrokerConf broker = Tools.broker();
        Map<String, Object> conf = new HashMap<>(map("bootstrap.servers", broker.getHost() + ":" + broker.getPort(), "group.id", group));
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        AtomicBoolean assigned = new AtomicBoolean();
        AtomicBoolean ended = new AtomicBoolean();
        Thread polls = new Thread(() -> {
            try (KafkaConsumer<byte[], byte[]> closed = consumer) {
                closed.subscribe(Collections.singletonList(topic));
                while (!ended.get()) {
                    closed.poll(Duration.ofMillis(50));
                    assigned.set(!closed.assignment().isEmpty());
                }
            }
        });
        polls.start();
        Tools.await("a stranger's partition", 60_000, assigned::get);
        return () -> {
            ended.set(true);
            polls.join();
        };
    }
}
