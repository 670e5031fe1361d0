package kafkafast;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertSame;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.Test;

/** Sending, against a real broker; what was sent is read back by our consumer. */
public class ProducerTest {
    @Test
    public void everythingARecordHasArrives() throws Exception {
        String topic = Tools.topic("records");
        byte[] big = new byte[300_000];
        Arrays.fill(big, (byte) 7);
        try (Producer producer = Producer.connect(Tools.broker())) {
            List<Header> headers = Arrays.asList(new Header("a", Tools.utf8("1")), new Header("a", null), new Header("ü", new byte[0]));
            RecordMetadata at = producer.send(new ProducerRecord<>(topic, 0, 1234L, Tools.utf8("key"), Tools.utf8("value"), headers)).get();
            assertEquals(topic, at.topic());
            assertEquals(0, at.partition());
            assertEquals(0, at.offset());
            assertEquals(1234, at.timestamp());
            long before = System.currentTimeMillis();
            assertEquals(1, producer.send(topic, Tools.utf8("gone"), null).join().offset());
            producer.sendMsg(topic, new byte[0]);
            producer.sendText(topic, "grüß dich \uD83D\uDE00");
            producer.sendMsg(topic, big);
            producer.flush();
            assertEquals(5, producer.stats().getDeliveredRecords());

            try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
                Message m = consumer.readMsg(30_000);
                assertNotNull(m);
                assertEquals(topic, m.getTopic());
                assertEquals(0, m.getPartition());
                assertEquals(0, m.getOffset());
                assertEquals(1234, m.getTimestamp());
                assertEquals(1, m.getAttempt());
                assertEquals("value", m.text());
                assertArrayEquals(Tools.utf8("key"), m.getKey());
                assertEquals(headers, m.getHeaders());
                Message tombstone = consumer.readMsg(10_000);
                assertNull(tombstone.getBytes());
                assertNull(tombstone.text());
                assertArrayEquals(Tools.utf8("gone"), tombstone.getKey());
                assertTrue(tombstone.getHeaders().isEmpty());
                assertTrue("a time of now", Math.abs(tombstone.getTimestamp() - before) < 60_000);
                Message empty = consumer.readMsg(10_000);
                assertEquals(0, empty.getBytes().length);
                assertNull(empty.getKey());
                assertEquals("grüß dich \uD83D\uDE00", consumer.readMsg(10_000).text());
                assertArrayEquals("larger than a chunk", big, consumer.readMsg(10_000).getBytes());
                assertEquals("kept messages keep their bytes", "value", m.text());
            }
        }
    }

    @Test
    public void manyThreadsLoseNothing() throws Exception {
        String topic = Tools.topic("threads");
        int threads = 4;
        int each = 20_000;
        try (Producer producer = Producer.connect(new KafkaConf().set("compression.type", "snappy"), Tools.broker())) {
            List<Thread> running = new ArrayList<>();
            AtomicReference<Throwable> failed = new AtomicReference<>();
            for (int t = 0; t < threads; t++) {
                int me = t;
                Thread thread = new Thread(() -> {
                    try {
                        for (int i = 0; i < each; i++) {
                            producer.sendMsg(topic, Tools.utf8(me + ":" + i));
                        }
                    } catch (Throwable e) {
                        failed.set(e);
                    }
                });
                thread.start();
                running.add(thread);
            }
            for (Thread thread : running) {
                thread.join();
            }
            assertNull(failed.get());
        }
        Set<String> seen = new HashSet<>();
        int[] next = new int[threads];
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            while (seen.size() < threads * each) {
                Message m = consumer.readMsg(30_000);
                assertNotNull("after " + seen.size(), m);
                assertTrue("no duplicate in a run without faults: " + m.text(), seen.add(m.text()));
                String[] parts = m.text().split(":");
                int from = Integer.parseInt(parts[0]);
                if (m.getPartition() == 0) {
                    assertTrue("order of one thread", Integer.parseInt(parts[1]) >= next[from]);
                    next[from] = Integer.parseInt(parts[1]);
                }
            }
        }
    }

    @Test
    public void waitingForAFutureDoesNotWaitForTheLinger() throws Exception {
        String topic = Tools.topic("linger");
        KafkaConf conf = new KafkaConf();
        conf.setQueueBufferingMaxMs(60_000);
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            producer.send(topic, null, Tools.utf8("warm up")).get(20, TimeUnit.SECONDS);
            long start = System.nanoTime();
            producer.send(topic, null, Tools.utf8("get")).get();
            producer.send(topic, null, Tools.utf8("join")).join();
            assertEquals(3L, (long) producer.send(topic, null, Tools.utf8("derived")).thenApply(RecordMetadata::offset).join());
            assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(10));
            CompletableFuture<RecordMetadata> open = producer.send(topic, null, Tools.utf8("flush"));
            Thread.sleep(300);
            assertFalse("it lingers", open.isDone());
            producer.flush(Duration.ofSeconds(20));
            assertTrue("after a flush the futures are done", open.isDone());
            CompletableFuture<RecordMetadata> last = producer.send(topic, null, Tools.utf8("close"));
            producer.close();
            assertEquals(5, last.getNow(null).offset());
        }
    }

    @Test
    public void aBlockedCallbackDelaysCallbacksOnly() throws Exception {
        String topic = Tools.topic("callback");
        CountDownLatch entered = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        KafkaConf conf = new KafkaConf();
        // Long enough that the callback hangs on the future before it ends: else it would run here.
        conf.setQueueBufferingMaxMs(500);
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            CompletableFuture<String> thread = producer.send(topic, null, new byte[1]).thenApply(m -> {
                entered.countDown();
                try {
                    release.await();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
                return Thread.currentThread().getName();
            });
            assertTrue(entered.await(20, TimeUnit.SECONDS));
            for (int i = 0; i < 10_000; i++) {
                producer.sendMsg(topic, new byte[100]);
            }
            Tools.await("sending goes on", 20_000, () -> producer.stats().getDeliveredRecords() == 10_001);
            release.countDown();
            assertEquals("kafkafast-callbacks", thread.get(10, TimeUnit.SECONDS));
            // Sending from a callback is allowed, also what needs the service thread.
            String other = Tools.topic("from-callback");
            assertEquals(0, producer.send(topic, null, new byte[1]).thenCompose(m -> producer.send(other, null, new byte[1])).get(20, TimeUnit.SECONDS).offset());
        }
    }

    @Test
    public void keysChooseThePartition() throws Exception {
        String topic = Tools.topic("keys");
        try (Producer producer = Producer.connect(Tools.broker())) {
            int first = producer.send(topic, Tools.utf8("k"), Tools.utf8("1")).get().partition();
            assertEquals(first, producer.send(topic, Tools.utf8("k"), Tools.utf8("2")).get().partition());
        }
    }

    @Test
    public void aFullBufferMakesSendersWaitAndThenGoOn() throws Exception {
        String topic = Tools.topic("full");
        KafkaConf conf = new KafkaConf().set("buffer.memory", 1 << 20).set("batch-byte-limit", 500_000).set("batch.size", 100_000);
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            byte[] bytes = new byte[10_000];
            for (int i = 0; i < 3_000; i++) {
                producer.sendMsg(topic, bytes);
            }
            producer.flush();
            assertEquals(3_000, producer.stats().getDeliveredRecords());
            assertTrue(producer.stats().getBufferedBytes() <= 1 << 20);
            assertSame("fluent", producer, producer.sendMsg(topic, bytes));
        }
    }

    @Test
    public void closedWhileOthersSend() throws Exception {
        for (int round = 0; round < 5; round++) {
            Producer producer = Producer.connect(Tools.broker());
            String topic = Tools.topic("race");
            producer.sendMsg(topic, new byte[1]);
            AtomicReference<Throwable> ended = new AtomicReference<>();
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < 4; t++) {
                boolean tracked = t % 2 == 0;
                Thread thread = new Thread(() -> {
                    try {
                        while (true) {
                            if (tracked) {
                                producer.send(topic, null, new byte[50]);
                            } else {
                                producer.sendMsg(topic, new byte[50]);
                            }
                        }
                    } catch (IllegalStateException e) {
                        assertTrue(e.getMessage(), e.getMessage().contains("was closed at"));
                    } catch (Throwable e) {
                        ended.set(e);
                    }
                });
                thread.start();
                threads.add(thread);
            }
            Thread.sleep(50);
            producer.close();
            for (Thread thread : threads) {
                thread.join(10_000);
                assertFalse(thread.isAlive());
            }
            assertNull(String.valueOf(ended.get()), ended.get());
        }
        Tools.assertNoThreadsLeft(2000);
    }

    @Test
    public void futuresFailWithWhatHappened() throws Exception {
        String topic = Tools.topic("refused");
        // The broker's limit is about 1 MB; ours lets it pass.
        try (Producer producer = Producer.connect(Tools.broker())) {
            CompletableFuture<RecordMetadata> tooLarge = producer.send(topic, null, new byte[3_000_000]);
            CompletionException e = assertThrows(CompletionException.class, tooLarge::join);
            assertTrue(String.valueOf(e.getCause()), e.getCause() instanceof RecordTooLargeException);
            assertTrue(e.getCause().getMessage(), e.getCause().getMessage().contains("raise max.message.bytes"));
            assertFalse(((KafkaFastException) e.getCause()).isPossiblyWritten());
        }
    }
}
