package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.Test;

/** Reading, against a real broker. */
public class ConsumerTest {
    private static void produce(String topic, int from, int to) {
        try (Producer producer = Producer.connect(Tools.broker())) {
            for (int i = from; i < to; i++) {
                producer.sendText(topic, String.valueOf(i));
            }
        }
    }

    private static String next(Consumer consumer) {
        Message m = consumer.readMsg(30_000);
        assertNotNull("a message within 30 s", m);
        return m.text();
    }

    /** What comes until nothing does, in any order: units of a partition have none. */
    private static Set<Integer> rest(Consumer consumer, int count) {
        Set<Integer> got = new TreeSet<>();
        for (int i = 0; i < count; i++) {
            assertTrue(got.add(Integer.valueOf(next(consumer))));
        }
        assertNull("no more than that", consumer.readMsg(300));
        return got;
    }

    private static Set<Integer> range(int from, int to) {
        Set<Integer> range = new TreeSet<>();
        for (int i = from; i < to; i++) {
            range.add(i);
        }
        return range;
    }

    @Test
    public void aLoopThatFailsAcknowledgesNothingOfTheMessageInHand() {
        String topic = Tools.topic("show3");
        String group = Tools.topic("g");
        produce(topic, 0, 10);
        RuntimeException thrown = assertThrows(RuntimeException.class, () -> {
            try (Consumer consumer = Tools.earliest(group, topic)) {
                for (Message m : consumer) {
                    if (m.text().equals("3")) {
                        throw new RuntimeException("the body failed");
                    }
                }
            }
        });
        assertEquals("the body failed", thrown.getMessage());
        try (Consumer consumer = Tools.earliest(group, topic)) {
            assertEquals("the message comes again, those before it do not", range(3, 10), rest(consumer, 7));
        }
        produce(topic, 10, 12);
        try (Consumer consumer = Tools.earliest(group, topic)) {
            assertEquals("a null has asked: all before is handled", "10", next(consumer));
        }
        try (Consumer consumer = Tools.earliest(group, topic)) {
            assertEquals("nobody asked after 10", range(10, 12), rest(consumer, 2));
        }
    }

    @Test
    public void aLoopEndsQuietlyWhenAnotherThreadCloses() throws Exception {
        String topic = Tools.topic("quiet");
        produce(topic, 0, 3);
        Consumer consumer = Tools.earliest(Tools.topic("g"), topic);
        CountDownLatch three = new CountDownLatch(3);
        AtomicReference<Throwable> failed = new AtomicReference<>();
        Thread loop = new Thread(() -> {
            try {
                for (Message m : consumer) {
                    assertNotNull(m.getBytes());
                    three.countDown();
                }
            } catch (Throwable e) {
                failed.set(e);
            }
        });
        Thread reader = new Thread(() -> {
            try {
                while (consumer.readMsg() != null) {
                    three.countDown();
                }
            } catch (Throwable e) {
                failed.set(e);
            }
        });
        loop.start();
        reader.start();
        assertTrue(three.await(30, TimeUnit.SECONDS));
        Thread.sleep(100);
        long start = System.nanoTime();
        consumer.close();
        loop.join(2000);
        reader.join(2000);
        assertFalse(loop.isAlive() || reader.isAlive());
        assertTrue("at once", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(3));
        assertNull(String.valueOf(failed.get()), failed.get());
        Tools.assertNoThreadsLeft(2000);
    }

    @Test
    public void whatIsProducedAfterConnectIsRead() {
        String topic = Tools.topic("latest");
        produce(topic, 0, 5);
        try (Consumer consumer = Consumer.connect(new KafkaConf(), new BrokerConf[] {Tools.broker()}, RedisConf.embedded(Tools.topic("g")), topic)) {
            produce(topic, 5, 8);
            for (int i = 5; i < 8; i++) {
                assertEquals(String.valueOf(i), next(consumer));
            }
            assertNull(consumer.readMsg(Duration.ofMillis(100)));
        }
    }

    @Test
    public void hasNextReservesForItsThread() throws Exception {
        String topic = Tools.topic("iterate");
        String group = Tools.topic("g");
        produce(topic, 0, 4);
        try (Consumer consumer = Tools.earliest(group, topic)) {
            Iterator<Message> it = consumer.iterator();
            assertTrue(it.hasNext());
            assertTrue("asking twice is asking once", it.hasNext());
            assertEquals("0", it.next().text());
            assertEquals("next without hasNext", "1", it.next().text());
            assertTrue(it.hasNext());
            assertEquals("readMsg takes what was reserved", "2", next(consumer));
            assertTrue(it.hasNext());
        }
        try (Consumer consumer = Tools.earliest(group, topic)) {
            assertEquals("what was reserved and not taken comes again", range(3, 4), rest(consumer, 1));
        }
    }

    @Test
    public void batchesAreAcknowledgedByTheNextAsk() {
        String topic = Tools.topic("batch");
        String group = Tools.topic("g");
        produce(topic, 0, 20);
        int got = 0;
        try (Consumer consumer = Tools.earliest(group, topic)) {
            List<Message> first = consumer.readBatch(5, 30_000);
            assertFalse(first.isEmpty());
            assertTrue(first.size() <= 5);
            for (Message m : first) {
                assertEquals(String.valueOf(got++), m.text());
            }
            List<Message> second = consumer.readBatch(1000, Duration.ofSeconds(30));
            assertFalse(second.isEmpty());
            assertEquals(String.valueOf(got), second.get(0).text());
        }
        try (Consumer consumer = Tools.earliest(group, topic)) {
            assertEquals("all of the second batch comes again", range(got, 20), rest(consumer, 20 - got));
        }
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            assertThrows(IllegalArgumentException.class, () -> consumer.readBatch(0, 1));
        }
    }

    @Test
    public void viewsAreShownInPlace() {
        String topic = Tools.topic("views");
        String group = Tools.topic("g");
        try (Producer producer = Producer.connect(Tools.broker())) {
            for (int i = 0; i < 9; i++) {
                producer.send(topic, Tools.utf8("k" + i), Tools.utf8("v" + i));
            }
            producer.send(topic, Tools.utf8("k9"), null);
        }
        List<String> seen = new ArrayList<>();
        try (Consumer consumer = Tools.earliest(group, topic)) {
            while (seen.size() < 10) {
                int shown = consumer.forEachView(4, 30_000, (meta, value) -> {
                    String text = value == null ? null : StandardCharsets.UTF_8.decode(value).toString();
                    seen.add(new String(meta.getKey(), StandardCharsets.UTF_8) + "=" + text + "@" + meta.getOffset());
                    assertEquals(topic, meta.getTopic());
                    assertEquals(1, meta.getAttempt());
                    assertTrue(meta.getHeaders().isEmpty());
                    assertTrue(value == null || value.isReadOnly());
                });
                assertTrue(shown > 0 && shown <= 4);
            }
            KafkaFastException e = assertThrows(KafkaFastException.class, () -> {
                produce(topic, 10, 11);
                consumer.forEachView(1, 30_000, (meta, value) -> {
                    throw new java.io.IOException("checked");
                });
            });
            assertEquals("checked", e.getCause().getMessage());
        }
        assertEquals("k0=v0@0", seen.get(0));
        assertTrue(seen.toString(), seen.contains("k9=null@9"));
        try (Consumer consumer = Tools.earliest(group, topic)) {
            assertEquals("the view whose handler failed comes again", range(10, 11), rest(consumer, 1));
        }
    }

    @Test
    public void interruptsReachWaitingReaders() throws Exception {
        String topic = Tools.topic("interrupt");
        produce(topic, 0, 1);
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            assertEquals("0", next(consumer));
            Thread me = Thread.currentThread();
            Thread other = new Thread(() -> {
                try {
                    Thread.sleep(300);
                } catch (InterruptedException e) {
                    return;
                }
                me.interrupt();
            });
            other.start();
            assertThrows(InterruptException.class, consumer::readMsg);
            assertTrue("the flag is set again", Thread.interrupted());
            produce(topic, 1, 2);
            assertEquals("and reading goes on", "1", next(consumer));
            // An interrupted thread takes what is there.
            Thread.currentThread().interrupt();
            assertThrows(InterruptException.class, () -> consumer.readMsg(5000));
            assertTrue(Thread.interrupted());
        }
    }

    /** Between records that follow each other a reader waits in native code. */
    @Test
    public void aReaderOfAStreamHearsInterruptsAndKeepsItsTimeOuts() throws Exception {
        String topic = Tools.topic("stream");
        Thread reader = Thread.currentThread();
        AtomicInteger sent = new AtomicInteger();
        try (Producer producer = Producer.connect(new KafkaConf().set("linger.ms", 0), Tools.broker());
            Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            Thread stream = new Thread(() -> {
                for (int i = 0; i < 1000; i++) {
                    producer.send(topic, null, new byte[10]).join();
                    if (sent.incrementAndGet() == 500) {
                        reader.interrupt();
                    }
                }
            });
            stream.start();
            AtomicInteger read = new AtomicInteger();
            assertThrows(InterruptException.class, () -> {
                while (consumer.readMsg(30_000) != null) {
                    read.incrementAndGet();
                }
            });
            assertTrue("the flag is set again", Thread.interrupted());
            assertTrue("heard while records come: " + read, read.get() < 1000);
            for (int i = read.get(); i < 1000; i++) {
                assertNotNull(consumer.readMsg(30_000));
            }
            stream.join();
            for (int millis : new int[] {0, 1, 50}) {
                producer.send(topic, null, new byte[10]).join();
                assertNotNull(consumer.readMsg(30_000));
                long begun = System.nanoTime();
                assertNull(consumer.readMsg(millis));
                long took = System.nanoTime() - begun;
                assertTrue(millis + " ms: " + took, took >= TimeUnit.MILLISECONDS.toNanos(millis) && took < TimeUnit.SECONDS.toNanos(5));
            }
        }
    }

    @Test
    public void processHandlesEachOnceInManyThreads() throws Exception {
        String topic = Tools.topic("process");
        int count = 2000;
        produce(topic, 0, count);
        Map<String, Integer> handled = new ConcurrentHashMap<>();
        Set<String> threads = ConcurrentHashMap.newKeySet();
        Consumer consumer = Tools.earliest(Tools.topic("g"), topic);
        Thread closer = new Thread(() -> {
            try {
                Tools.await("all of them", 60_000, () -> handled.size() == count);
                Thread.sleep(200);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            } finally {
                consumer.close();
            }
        });
        closer.start();
        consumer.process(16, m -> {
            threads.add(Thread.currentThread().getName());
            Thread.sleep(1);
            handled.merge(m.text(), 1, Integer::sum);
        });
        closer.join();
        assertEquals(count, handled.size());
        assertEquals("each once", Collections.singleton(1), new HashSet<>(handled.values()));
        assertTrue("one partition, many threads: " + threads, threads.size() > 4);
        Tools.assertNoThreadsLeft(2000);
    }

    @Test
    public void aHandlerThatThrowsSeesTheMessageAgain() throws Exception {
        String topic = Tools.topic("retry");
        produce(topic, 0, 20);
        KafkaConf conf = new KafkaConf().set("retry-backoff-ms", 100);
        conf.setUseEarliest(true);
        List<String> failed = Collections.synchronizedList(new ArrayList<>());
        Set<String> handled = ConcurrentHashMap.newKeySet();
        AtomicInteger attempt = new AtomicInteger();
        try (Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, RedisConf.embedded(Tools.topic("g")), topic)) {
            Thread worker = new Thread(() -> consumer.process(2, m -> {
                if (m.text().equals("7") && failed.size() < 2) {
                    failed.add(m.text());
                    throw new IllegalStateException("not yet");
                }
                if (m.text().equals("7")) {
                    attempt.set(m.getAttempt());
                } else {
                    // An attempt counts when another message was handled since: some are left when it comes again.
                    Thread.sleep(40);
                }
                handled.add(m.text());
            }));
            worker.start();
            Tools.await("all of them", 60_000, () -> handled.size() == 20);
            assertEquals(2, failed.size());
            assertEquals("the third attempt", 3, attempt.get());
            consumer.close();
            worker.join(5000);
            assertFalse(worker.isAlive());
        }
    }

    @Test
    public void anInterruptedProcessEndsAfterTheMessageInHand() throws Exception {
        String topic = Tools.topic("stop");
        String group = Tools.topic("g");
        produce(topic, 0, 10);
        CountDownLatch inHand = new CountDownLatch(1);
        CountDownLatch go = new CountDownLatch(1);
        AtomicReference<Throwable> thrown = new AtomicReference<>();
        try (Consumer consumer = Tools.earliest(group, topic)) {
            Thread caller = new Thread(() -> {
                try {
                    consumer.process(1, m -> {
                        inHand.countDown();
                        go.await();
                    });
                } catch (Throwable e) {
                    thrown.set(e);
                }
            });
            caller.start();
            assertTrue(inHand.await(30, TimeUnit.SECONDS));
            caller.interrupt();
            caller.join(5000);
            assertTrue(String.valueOf(thrown.get()), thrown.get() instanceof InterruptException);
            go.countDown();
            // Its thread looks for the end of the call after the message; it hands the rest back then.
            assertEquals("the message in hand was handled, the rest is there", range(1, 10), rest(consumer, 9));
        }
    }

    @Test
    public void aDeadThreadHandsBackWhatItHeld() throws Exception {
        String topic = Tools.topic("dead");
        produce(topic, 0, 1);
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            AtomicReference<String> read = new AtomicReference<>();
            Thread thread = new Thread(() -> read.set(next(consumer)));
            thread.start();
            thread.join();
            assertEquals("0", read.get());
            assertEquals("it never asked for the next one", "0", next(consumer));
        }
    }

    @Test
    public void topicsComeAndGo() {
        String one = Tools.topic("one");
        String two = Tools.topic("two");
        produce(one, 0, 1);
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), one)) {
            assertEquals("0", next(consumer));
            consumer.addTopics(two);
            produce(two, 5, 6);
            Message m = consumer.readMsg(30_000);
            assertEquals(two, m.getTopic());
            assertEquals("5", m.text());
            consumer.removeTopics(two);
            assertThrows(IllegalArgumentException.class, () -> consumer.addTopics());
            assertThrows(IllegalArgumentException.class, () -> consumer.addTopics((String) null));
            assertThrows(InvalidTopicException.class, () -> consumer.addTopics("one\0two"));
            produce(one, 1, 2);
            assertEquals("1", next(consumer));
            assertNull(consumer.readMsg(100));
            assertEquals(3, consumer.stats().getMessages());
        }
    }

    @Test
    public void closeWaitsForThoseWhoHoldAMessageWhenAsked() throws Exception {
        String topic = Tools.topic("wait");
        String group = Tools.topic("g");
        produce(topic, 0, 3);
        Consumer consumer = Tools.earliest(group, topic);
        CountDownLatch inHand = new CountDownLatch(1);
        AtomicReference<Message> after = new AtomicReference<>();
        Thread reader = new Thread(() -> {
            next(consumer);
            inHand.countDown();
            try {
                Thread.sleep(500);
            } catch (InterruptedException e) {
                return;
            }
            after.set(consumer.readMsg());
        });
        reader.start();
        assertTrue(inHand.await(30, TimeUnit.SECONDS));
        consumer.close(Duration.ofSeconds(20));
        reader.join(5000);
        assertNull("there is no next one", after.get());
        try (Consumer again = Tools.earliest(group, topic)) {
            assertEquals("0 was handled: its thread asked for the next", range(1, 3), rest(again, 2));
        }
    }

    @Test
    public void aBatchIsHandledWholeWhenItsThreadAsksWhileClosing() throws Exception {
        String topic = Tools.topic("wait");
        String group = Tools.topic("g");
        produce(topic, 0, 40);
        Consumer consumer = Tools.earliest(group, topic);
        Set<Integer> handled = ConcurrentHashMap.newKeySet();
        CountDownLatch inHand = new CountDownLatch(1);
        AtomicInteger after = new AtomicInteger(-1);
        Thread reader = new Thread(() -> {
            // All that is at hand, and so as a rule the whole chunk.
            consumer.readBatch(1000, 30_000).forEach(m -> handled.add(Integer.valueOf(m.text())));
            inHand.countDown();
            try {
                Thread.sleep(500);
            } catch (InterruptedException e) {
                return;
            }
            after.set(consumer.readBatch(1000, 0).size());
        });
        reader.start();
        assertTrue(inHand.await(30, TimeUnit.SECONDS));
        consumer.close(Duration.ofSeconds(20));
        reader.join(5000);
        assertEquals("there is no next one", 0, after.get());
        assertTrue("several at once: " + handled, handled.size() > 1);
        produce(topic, 40, 41);
        Set<Integer> rest = range(0, 41);
        rest.removeAll(handled);
        try (Consumer again = Tools.earliest(group, topic)) {
            assertEquals("its thread asked for the next", rest, rest(again, rest.size()));
        }
    }

    @Test
    public void twoConsumersOfAGroupShareTheWork() throws Exception {
        String topic = Tools.topic("share");
        String group = Tools.topic("g");
        int count = 5000;
        produce(topic, 0, count);
        Map<String, Integer> seen = new ConcurrentHashMap<>();
        List<Thread> threads = new ArrayList<>();
        List<Consumer> consumers = new ArrayList<>();
        for (int c = 0; c < 2; c++) {
            Consumer consumer = Tools.earliest(group, topic);
            consumers.add(consumer);
            for (int t = 0; t < 2; t++) {
                Thread thread = new Thread(() -> {
                    for (Message m : consumer) {
                        seen.merge(m.text(), 1, Integer::sum);
                    }
                });
                thread.start();
                threads.add(thread);
            }
        }
        Tools.await("all of them", 60_000, () -> seen.size() == count);
        Thread.sleep(100);
        consumers.forEach(Consumer::close);
        for (Thread thread : threads) {
            thread.join(5000);
            assertFalse(thread.isAlive());
        }
        assertEquals("each once", Collections.singleton(1), new HashSet<>(seen.values()));
    }

    /** Waiting readers and senders park in Java: virtual threads give their carrier back. */
    @Test
    public void virtualThreadsDoNotPinTheirCarriers() throws Exception {
        org.junit.Assume.assumeTrue(Runtime.version().feature() >= 21);
        java.lang.reflect.Method start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        String topic = Tools.topic("virtual");
        String empty = Tools.topic("empty");
        int count = 50;
        CountDownLatch done = new CountDownLatch(count);
        AtomicInteger nothing = new AtomicInteger();
        try (Producer producer = Producer.connect(Tools.broker());
            Consumer idle = Tools.earliest(Tools.topic("g"), empty);
            Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            List<Thread> waiting = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                waiting.add((Thread) start.invoke(null, (Runnable) () -> {
                    if (idle.readMsg() == null) {
                        nothing.incrementAndGet();
                    }
                }));
            }
            for (int i = 0; i < count; i++) {
                start.invoke(null, (Runnable) () -> {
                    producer.send(topic, null, new byte[10]).join();
                    if (consumer.readMsg(30_000) != null) {
                        done.countDown();
                    }
                });
            }
            assertTrue("they work while others wait: " + done.getCount(), done.await(60, TimeUnit.SECONDS));
            idle.close();
            for (Thread thread : waiting) {
                thread.join(5000);
            }
            assertEquals(count, nothing.get());
        }
    }

    @Test
    public void aForgottenConsumerIsClosedWhenItIsCollected() throws Exception {
        String topic = Tools.topic("forgotten");
        produce(topic, 0, 2);
        String group = Tools.topic("g");
        forget(group, topic);
        for (int i = 0; i < 100 && !Tools.ourThreads().isEmpty(); i++) {
            System.gc();
            Thread.sleep(50);
        }
        Tools.assertNoThreadsLeft(2000);
        try (Consumer consumer = Tools.earliest(group, topic)) {
            Set<String> all = new HashSet<>();
            for (int i = 0; i < 3; i++) {
                all.add(next(consumer));
            }
            assertEquals("handed back, and sent", Set.of("0", "1", "left to the collector"), all);
        }
    }

    private static void forget(String group, String topic) {
        Consumer consumer = Tools.earliest(group, topic);
        assertEquals("0", next(consumer));
        Producer.connect(Tools.broker()).sendText(topic, "left to the collector");
    }
}
