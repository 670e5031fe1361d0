package kafkafast;

import static kafkafast.Neighbours.sorted;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.record.TimestampType;
import org.junit.ClassRule;
import org.junit.Test;

/**
 * Strangers agree on the bytes: DumpLogSegments finds what we send valid, kafka-clients reads it, and we read what kafka-clients and the
 * broker itself have written.
 */
public class StrangersTest {
    /** All that there are in {@link KafkaConf.CODEC}. */
    private static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    private static final int PARTITIONS = 3;
    /** A batch of fewer bytes may stay plain: it is sent compressed only when that makes it smaller. */
    private static final int SMALL = 1000;

    /** Some records here are very old; the cleaner is in a hurry. */
    @ClassRule
    public static final Neighbours HERE =
        new Neighbours("log.retention.ms=-1\nlog.cleaner.backoff.ms=100\nlog.cleaner.dedupe.buffer.size=4194304");

    // --- what is sent -----------------------------------------------------------------------------------------------

    /** Every kind of key with every kind of value, with and without headers and a time of its own, in all partitions; offsets are unknown. */
    private static List<Row> varieties() {
        byte[] long100k = new byte[100_000];
        for (int i = 0; i < long100k.length; i++) {
            long100k[i] = (byte) (i % 1000 / 7);
        }
        byte[][] keys = {null, {}, Tools.utf8("schl\u00fcssel"), {0, (byte) 0xff, (byte) 0x80}};
        byte[][] values = {null, {}, {7}, Tools.utf8("gr\u00fc\u00df dich \uD83D\uDE00"), long100k};
        List<Header> some = Arrays.asList(new Header("a", Tools.utf8("1")), new Header("a", null), new Header("b", new byte[0]),
            new Header("a", Tools.utf8("2")), new Header("\u00fc\u20ac\uD83D\uDE00", new byte[300]), new Header("", new byte[] {-1}));
        long now = System.currentTimeMillis();
        long[] times = {now, 0, 1234, now - 100_000};
        List<Row> rows = new ArrayList<>();
        for (byte[] key : keys) {
            for (byte[] value : values) {
                for (int i = 0; i < 4; i++) {
                    List<Header> headers = i < 2 ? Collections.emptyList() : some;
                    long time = i % 2 == 0 ? -1 : times[rows.size() / 2 % times.length];
                    rows.add(new Row(rows.size() % PARTITIONS, -1, time, key, value, headers));
                }
            }
        }
        return rows;
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, Row row) {
        return new ProducerRecord<>(topic, row.partition, row.timestamp < 0 ? null : row.timestamp, row.key, row.value, row.headers);
    }

    /** Sends rows by our producer and returns them with their places in the log, which {@code next} foretells. */
    private static List<Row> send(KafkaConf conf, String topic, List<Row> rows, long[] next) throws Exception {
        long before = System.currentTimeMillis();
        List<Row> sent = new ArrayList<>();
        try (Producer producer = Producer.connect(conf, HERE.broker.address())) {
            List<CompletableFuture<RecordMetadata>> places = new ArrayList<>();
            for (Row row : rows) {
                places.add(producer.send(record(topic, row)));
            }
            producer.flush();
            for (int i = 0; i < rows.size(); i++) {
                Row row = rows.get(i);
                RecordMetadata at = places.get(i).get(30, TimeUnit.SECONDS);
                long offset = next[row.partition]++;
                assertEquals(row.partition, at.partition());
                assertEquals(conf.get("acks").equals("0") ? -1 : offset, at.offset());
                if (row.timestamp >= 0) {
                    assertEquals(row.timestamp, at.timestamp());
                } else {
                    assertTrue("now: " + at.timestamp(), at.timestamp() >= before && at.timestamp() <= System.currentTimeMillis());
                }
                sent.add(new Row(row.partition, offset, at.timestamp(), row.key, row.value, row.headers));
            }
        }
        return sent;
    }

    private static KafkaConf conf(String codec, String acks) {
        return new KafkaConf().set("codec", codec).set("acks", acks).set("linger.ms", "60000").set("batch.size", "900000");
    }

    // --- ours, read by strangers ------------------------------------------------------------------------------------

    @Test
    public void strangersReadOurs() throws Exception {
        for (String codec : CODECS) {
            List<Path> segments = new ArrayList<>();
            Map<String, List<Row>> all = new HashMap<>();
            for (String acks : new String[] {"all", "1", "0"}) {
                String topic = HERE.strangers.topic("ours-" + codec + "-acks-" + acks, PARTITIONS);
                long[] next = new long[PARTITIONS];
                List<Row> sent = send(conf(codec, acks).set("batch-num-messages", "1"), topic, varieties(), next);
                // With acks=0 what is sent is not yet written, and the next producer has a connection of its own.
                HERE.strangers.awaitEnd(topic, PARTITIONS, sent.size());
                sent.addAll(send(conf(codec, acks), topic, varieties(), next));
                HERE.strangers.awaitEnd(topic, PARTITIONS, sent.size());
                Row.assertSame(topic, sorted(sent), HERE.strangers.read(topic));
                segments.addAll(HERE.broker.segments(topic));
                sent.forEach(row -> all.computeIfAbsent(topic + "-" + row.partition, p -> new ArrayList<>()).add(row));
            }
            Map<String, List<LogDump.Batch>> dump = LogDump.of(segments);
            assertEquals(all.keySet(), dump.keySet());
            all.forEach((partition, sent) -> assertValid(dump.get(partition), sent, codec, !partition.contains("-acks-0")));
        }
    }

    /** What the log has is what was sent: the first half in batches of one record, then in larger ones. */
    private static void assertValid(List<LogDump.Batch> batches, List<Row> sent, String codec, boolean idempotent) {
        LogDump.assertNoHoles(batches, idempotent);
        int ones = sent.size() / 2;
        assertEquals(idempotent ? 2 : 1, batches.stream().map(b -> b.head.text("producerId")).distinct().count());
        int at = 0;
        long compressed = 0;
        for (LogDump.Batch batch : batches) {
            if (batch.head.number("baseOffset") < ones) {
                assertEquals(batch.toString(), 1, batch.count());
            }
            if (!batch.codec().equals(codec)) {
                assertEquals(batch.toString(), "none", batch.codec());
                assertTrue("it would shrink: " + batch, batch.head.number("size") < SMALL);
            } else {
                compressed++;
            }
            for (LogDump.Line record : batch.records) {
                Row row = sent.get(at++);
                assertEquals(record.text, row.offset, record.number("offset"));
                assertEquals(record.text, row.timestamp, record.number("CreateTime"));
                assertEquals(record.text, row.key == null ? -1 : row.key.length, record.number("keySize"));
                assertEquals(record.text, row.value == null ? -1 : row.value.length, record.number("valueSize"));
                assertEquals(row.headers.stream().map(Header::key).collect(Collectors.joining(",")), record.headerKeys());
            }
        }
        assertEquals(sent.size(), at);
        assertTrue("some with the codec that was asked for", compressed > ones / 5);
        assertTrue("and some of many records", batches.stream().anyMatch(b -> b.count() > 5));
    }

    /** Noise would grow: it is sent as it is. */
    @Test
    public void whatDoesNotShrinkStaysPlain() throws Exception {
        byte[] noise = new byte[100_000];
        new Random(1).nextBytes(noise);
        for (String codec : CODECS) {
            String topic = HERE.strangers.topic("noise", 1);
            List<Row> sent = send(conf(codec, "all"), topic, Arrays.asList(new Row(0, -1, 5, null, noise, Collections.emptyList())), new long[1]);
            Row.assertSame(topic, sent, HERE.strangers.read(topic));
            List<LogDump.Batch> batches = LogDump.of(HERE.broker.segments(topic)).get(topic + "-0");
            assertEquals(Arrays.asList("none"), batches.stream().map(LogDump.Batch::codec).collect(Collectors.toList()));
        }
    }

    @Test
    public void aBrokenByteIsFound() throws Exception {
        for (String codec : CODECS) {
            String topic = HERE.strangers.topic("broken", PARTITIONS);
            send(conf(codec, "all"), topic, varieties(), new long[PARTITIONS]);
            byte[] whole = Files.readAllBytes(HERE.broker.segments(topic).get(0));
            Path dir = Files.createTempDirectory("kafka-fast-broken");
            Path file = dir.resolve("00000000000000000000.log");
            try {
                Files.write(file, whole);
                LogDump.of(Collections.singletonList(file));
                whole[whole.length / 2] ^= 1;
                Files.write(file, whole);
                assertThrows(AssertionError.class, () -> LogDump.of(Collections.singletonList(file)));
            } finally {
                Files.delete(file);
                Files.delete(dir);
            }
        }
    }

    /** The same key goes to the same partition, whoever sends it. */
    @Test
    public void keysGoWhereStrangersSendThem() throws Exception {
        String topic = HERE.strangers.topic("keys", 7);
        try (Producer producer = Producer.connect(HERE.broker.address())) {
            List<byte[]> keys = new ArrayList<>(Arrays.asList(new byte[0], new byte[] {-1, 0, -128}, new byte[70_000]));
            for (int i = 0; i < 200; i++) {
                keys.add(Tools.utf8("key-".substring(0, i % 5) + i));
            }
            for (byte[] key : keys) {
                CompletableFuture<RecordMetadata> at = producer.send(topic, key, new byte[1]);
                producer.startFlush();
                assertEquals(BuiltInPartitioner.partitionForKey(key, 7), at.get(30, TimeUnit.SECONDS).partition());
            }
        }
    }

    // --- theirs, read by us -----------------------------------------------------------------------------------------

    @Test
    public void weReadStrangers() throws Exception {
        for (String codec : CODECS) {
            String topic = HERE.strangers.topic("theirs-" + codec, PARTITIONS);
            String[][] kinds = {{"acks", "all"}, {"enable.idempotence", "false", "acks", "1"}, {"transactional.id", Tools.topic("t")}};
            List<Row> sent = new ArrayList<>();
            List<Row> aborted = new ArrayList<>();
            for (String[] kind : kinds) {
                for (String batch : new String[] {"0", "500000"}) {
                    List<String> settings = new ArrayList<>(Arrays.asList("compression.type", codec, "linger.ms", "200", "batch.size", batch));
                    settings.addAll(Arrays.asList(kind));
                    try (Strangers.Sender sender = HERE.strangers.sender(settings.toArray(new String[0]))) {
                        if (kind[0].equals("transactional.id")) {
                            sendTransactions(sender, topic, sent, aborted);
                        } else {
                            varieties().forEach(row -> sender.send(topic, row));
                            sent.addAll(sender.flush());
                        }
                    }
                }
            }
            Row.assertSame(topic, sorted(sent), HERE.strangers.read(topic));
            assertEquals("committed", sent.size() - aborted.size(), HERE.strangers.read(topic, "read_committed", TimestampType.CREATE_TIME).size());
            assertTrue(aborted.size() > 50);
            // read_uncommitted, the default: what was aborted is read too, markers never.
            Row.assertSame(topic, sorted(sent), HERE.ours(topic, sent.size()));
            assertNothingStopsAtTheEnd(topic, sent.size());
        }
    }

    /** A dozen transactions, every third of them aborted, so that markers stand between the records and at the end. */
    private static void sendTransactions(Strangers.Sender sender, String topic, List<Row> sent, List<Row> aborted) throws Exception {
        List<Row> rows = varieties();
        for (int i = 0; i < 12; i++) {
            sender.producer.beginTransaction();
            rows.subList(rows.size() * i / 12, rows.size() * (i + 1) / 12).forEach(row -> sender.send(topic, row));
            List<Row> placed = sender.flush();
            sent.addAll(placed);
            if (i % 3 == 2) {
                sender.producer.abortTransaction();
                aborted.addAll(placed);
            } else {
                sender.producer.commitTransaction();
            }
        }
    }

    /** A reader that has read a topic whose log ends with a marker, or with a gap, gets what comes behind it. */
    private static void assertNothingStopsAtTheEnd(String topic, int count) throws Exception {
        try (Consumer consumer = HERE.consumer(topic, 50); Strangers.Sender sender = HERE.strangers.sender()) {
            for (int i = 0; i < count; i++) {
                assertNotNull(consumer.readMsg(30_000));
            }
            assertNull("it waits at the end", consumer.readMsg(300));
            sender.send(topic, new Row(0, -1, 9, Tools.utf8("key"), Tools.utf8("behind"), Collections.emptyList()));
            List<Row> sent = sender.flush();
            Message m = consumer.readMsg(30_000);
            assertNotNull("the record behind the end of " + topic, m);
            assertEquals(sent.get(0), Row.of(m));
        }
    }

    // --- logs that the broker wrote anew ----------------------------------------------------------------------------

    @Test
    public void batchesTheBrokerCompressedAgain() throws Exception {
        for (String[] codecs : new String[][] {{"none", "gzip"}, {"gzip", "snappy"}, {"snappy", "lz4"}, {"lz4", "zstd"}, {"zstd", "uncompressed"}}) {
            String topic = HERE.strangers.topic("again", PARTITIONS, "compression.type", codecs[1]);
            List<Row> sent = sorted(send(conf(codecs[0], "all"), topic, varieties(), new long[PARTITIONS]));
            for (LogDump.Batch batch : LogDump.of(HERE.broker.segments(topic)).get(topic + "-0")) {
                assertEquals(batch.toString(), codecs[1].replace("uncompressed", "none"), batch.codec());
            }
            Row.assertSame(topic, sent, HERE.strangers.read(topic));
            Row.assertSame(topic, sent, HERE.ours(topic, sent.size()));
        }
    }

    @Test
    public void timesTheBrokerGave() throws Exception {
        for (String codec : CODECS) {
            String topic = HERE.strangers.topic("append-time", 1, "message.timestamp.type", "LogAppendTime");
            long before = System.currentTimeMillis();
            List<RecordMetadata> places = new ArrayList<>();
            try (Producer producer = Producer.connect(conf(codec, "all"), HERE.broker.address())) {
                List<CompletableFuture<RecordMetadata>> sent = new ArrayList<>();
                for (Row row : varieties()) {
                    sent.add(producer.send(record(topic, new Row(0, -1, row.timestamp, row.key, row.value, row.headers))));
                }
                producer.flush();
                for (CompletableFuture<RecordMetadata> one : sent) {
                    places.add(one.get(30, TimeUnit.SECONDS));
                }
            }
            List<Row> theirs = HERE.strangers.read(topic, "read_uncommitted", TimestampType.LOG_APPEND_TIME);
            assertEquals(places.size(), theirs.size());
            for (int i = 0; i < places.size(); i++) {
                assertTrue("the broker's clock", theirs.get(i).timestamp >= before);
                assertEquals("what a sender is told", theirs.get(i).timestamp, places.get(i).timestamp());
            }
            Row.assertSame(topic, theirs, HERE.ours(topic, theirs.size()));
        }
    }

    @Test
    public void aLogThatBeginsWithinABatch() throws Exception {
        for (String codec : CODECS) {
            String topic = HERE.strangers.topic("begins", 1);
            List<Row> rows = varieties().stream().map(r -> new Row(0, -1, r.timestamp, r.key, r.value, r.headers)).collect(Collectors.toList());
            List<Row> sent = send(conf(codec, "1"), topic, rows.subList(0, 40), new long[1]);
            HERE.strangers.deleteBefore(topic, 23);
            Row.assertSame(topic, sent.subList(23, 40), HERE.strangers.read(topic));
            Row.assertSame(topic, sent.subList(23, 40), HERE.ours(topic, 17));
        }
    }

    /**
     * Compaction leaves batches with few records, batches with none and gaps where batches were. Each round is a segment of its own, since
     * the times of the records say so.
     */
    @Test
    public void whatCompactionLeaves() throws Exception {
        int rounds = 20;
        for (String codec : CODECS) {
            String topic = HERE.strangers.topic("compact", 1, "cleanup.policy", "compact", "segment.ms", "5000", "min.cleanable.dirty.ratio", "0.01");
            long start = System.currentTimeMillis() - 10_000L * rounds;
            Map<String, Row> left = new TreeMap<>();
            long[] next = new long[1];
            // A producer whose records all go leaves an empty batch, which keeps its sequence.
            Row gone = new Row(0, -1, start, Tools.utf8("committed"), new byte[9], Collections.emptyList());
            send(conf(codec, "all"), topic, Collections.nCopies(50, gone), next);
            for (int round = 0; round < rounds; round += 5) {
                List<Row> rows = new ArrayList<>();
                for (int r = round; r < round + 5; r++) {
                    rows.addAll(round(r, start + 10_000L * r));
                }
                send(conf(codec, "all").set("batch-num-messages", "60"), topic, rows, next).forEach(row -> left.put(new String(row.key), row));
            }
            try (Strangers.Sender sender = HERE.strangers.sender("transactional.id", Tools.topic("t"), "compression.type", codec)) {
                for (String key : new String[] {"committed", "aborted"}) {
                    sender.producer.beginTransaction();
                    sender.send(topic, new Row(0, -1, System.currentTimeMillis(), Tools.utf8(key), Tools.utf8("1"), Collections.emptyList()));
                    List<Row> placed = sender.flush();
                    if (key.equals("committed")) {
                        sender.producer.commitTransaction();
                        left.put(key, placed.get(0));
                    } else {
                        sender.producer.abortTransaction();
                    }
                }
                // The segment that is written to is never cleaned.
                sender.producer.beginTransaction();
                sender.send(topic, new Row(0, -1, System.currentTimeMillis() + 60_000, Tools.utf8("roll"), null, Collections.emptyList()));
                left.put("roll", sender.flush().get(0));
                sender.producer.commitTransaction();
            }
            List<Row> expected = sorted(left.values());
            Tools.await("the cleaner", 30_000, () -> HERE.strangers.read(topic).size() <= expected.size());
            Row.assertSame(topic, expected, HERE.strangers.read(topic));
            List<LogDump.Batch> log = LogDump.of(HERE.broker.segments(topic), true).get(topic + "-0");
            assertTrue("a batch without records", log.stream().anyMatch(b -> b.count() == 0));
            assertTrue("a batch with gaps", log.stream().anyMatch(b -> b.count() > 1
                && b.count() <= b.head.number("lastOffset") - b.head.number("baseOffset")));
            assertTrue("gaps", expected.get(expected.size() - 1).offset > 3L * expected.size());
            Row.assertSame(topic, expected, HERE.ours(topic, expected.size()));
            assertNothingStopsAtTheEnd(topic, expected.size());
        }
    }

    /** Of a log that is mostly gap, a unit takes as many offsets as it needs for its records, not sixty-four. */
    @Test
    public void aWideGapIsCrossedInFewSteps() throws Exception {
        String topic = HERE.strangers.topic("gap", 1, "cleanup.policy", "compact", "segment.ms", "5000", "min.cleanable.dirty.ratio", "0.01");
        int gap = 200_000;
        long start = System.currentTimeMillis() - 60_000;
        try (Producer producer = Producer.connect(conf("snappy", "all"), HERE.broker.address())) {
            for (int i = 0; i <= gap + 2; i++) {
                // The same key in one segment; the last two records are segments of their own.
                long time = start + 10_000L * Math.max(i - gap, 0);
                producer.send(new ProducerRecord<>(topic, 0, time, Tools.utf8(i == gap + 2 ? "other" : "key"), Tools.utf8("v" + i)));
                if (i >= gap) {
                    producer.flush();
                }
            }
        }
        Tools.await("the cleaner", 30_000, () -> HERE.strangers.read(topic).size() == 2);
        try (Consumer consumer = HERE.consumer(topic, 100_000)) {
            assertEquals(gap + 1, consumer.readMsg(30_000).getOffset());
            assertEquals(gap + 2, consumer.readMsg(30_000).getOffset());
            assertNull(consumer.readMsg(300));
            assertTrue(consumer.stats().toString(), consumer.stats().getUnitsDone() < 100);
        }
    }

    /** The keys that are not done: each stands for the last time in a round of its own, three in each; every fifth row is a tombstone. */
    private static List<Row> round(int round, long time) {
        List<Row> rows = new ArrayList<>();
        for (int i = 0; i < 60; i++) {
            byte[] value = (round + i) % 5 == 0 ? null : Tools.utf8("value " + i + " of round " + round);
            if (round <= i * 7 % 20) {
                rows.add(new Row(0, -1, time + i, Tools.utf8("key-" + i), value, Collections.emptyList()));
            }
        }
        return rows;
    }
}
