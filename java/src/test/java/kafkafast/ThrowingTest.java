package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.Test;

/** User code that throws acknowledges nothing: in every style of reading, however the consumer ends, whenever that is. */
public class ThrowingTest {
    private static final int RECORDS = 6;
    private static final long SEED = 20261130;
    private static final RuntimeException BOOM = new IllegalStateException("the user's code failed");

    /** How records are read. */
    enum Style { PROCESS, MESSAGES, LOOP, BATCHES, VIEWS }

    /** How the consumer ends. */
    enum End { CLOSE, CLOSE_AND_WAIT, EXIT_HOOK, DEFECT }

    /** When the user's code throws, from the moment at which the end begins. */
    enum Moment { BEFORE, AT_ONCE, SOON, LATE }

    /** What the user's code does with a record. */
    interface Body {
        void handle(long offset);
    }

    private static KafkaConf conf() {
        return new KafkaConf().set("use-earliest", true).set("retry-backoff-ms", 20).set("heartbeat-ms", 100);
    }

    private static Consumer connect(RedisConf group, String topic) {
        return Consumer.connect(conf(), new BrokerConf[] {Tools.broker()}, group, topic);
    }

    private static void produce(Producer producer, String topic, int count) {
        for (int i = 0; i < count; i++) {
            producer.sendText(topic, "record");
        }
        producer.flush();
    }

    /** Reads until the consumer ends, or the body throws. What the body returned from, and the next was asked for after, is in {@code returned}. */
    private static void read(Consumer consumer, Style style, Set<Long> returned, Body body) {
        switch (style) {
            case PROCESS:
                consumer.process(1, m -> {
                    body.handle(m.getOffset());
                    returned.add(m.getOffset());
                });
                return;
            case MESSAGES:
                for (Message m = consumer.readMsg(); m != null; m = consumer.readMsg()) {
                    body.handle(m.getOffset());
                    returned.add(m.getOffset());
                }
                return;
            case LOOP:
                for (Message m : consumer) {
                    body.handle(m.getOffset());
                    returned.add(m.getOffset());
                }
                return;
            case BATCHES:
                for (List<Message> batch = consumer.readBatch(2, 60_000); !batch.isEmpty(); batch = consumer.readBatch(2, 60_000)) {
                    batch.forEach(m -> body.handle(m.getOffset()));
                    batch.forEach(m -> returned.add(m.getOffset()));
                }
                return;
            default:
                for (int shown = 1; shown > 0;) {
                    try {
                        shown = consumer.forEachView(3, 60_000, (meta, value) -> {
                            body.handle(meta.getOffset());
                            returned.add(meta.getOffset());
                        });
                    } catch (IllegalStateException e) {
                        // Its thread goes on: asking acknowledges nothing that failed.
                        assertEquals(BOOM, e);
                    }
                }
        }
    }

    /** One consumer of a group whose user code throws on one record while the consumer ends, and the next one. */
    private static final class Round {
        private final Style style;
        private final End end;
        private final long delayNanos;
        private final RedisConf group;
        private final String topic;
        private final long base;
        private final int fails;
        private final Set<Long> returned = new ConcurrentSkipListSet<>();
        private final CountDownLatch inHand = new CountDownLatch(1);
        private volatile long throwAt = Long.MAX_VALUE;

        Round(Style style, End end, Moment moment, RedisConf group, String topic, long base, Random random) {
            this.style = style;
            this.end = end;
            this.group = group;
            this.topic = topic;
            this.base = base;
            this.fails = random.nextInt(RECORDS);
            long[] micros = {-random.nextInt(300), random.nextInt(300), 300 + random.nextInt(3_000), 50_000};
            this.delayNanos = TimeUnit.MICROSECONDS.toNanos(micros[moment.ordinal()]);
        }

        private void body(long offset) {
            if (offset == base + fails && inHand.getCount() > 0) {
                inHand.countDown();
                while (System.nanoTime() < throwAt) {
                    Thread.onSpinWait();
                }
                throw BOOM;
            }
        }

        private void end(Consumer consumer) {
            throwAt = System.nanoTime() + delayNanos + (delayNanos < 0 ? TimeUnit.MICROSECONDS.toNanos(300) : 0);
            if (delayNanos < 0) {
                long now = throwAt - delayNanos;
                while (System.nanoTime() < now) {
                    Thread.onSpinWait();
                }
            }
            if (end == End.EXIT_HOOK) {
                new ExitHook().run();
            } else if (end == End.DEFECT) {
                assertThrows(KafkaFastException.class, consumer::panicForTest);
            }
            consumer.close(end == End.CLOSE_AND_WAIT ? 150 : 0);
        }

        void run(String name) throws Exception {
            AtomicReference<Throwable> thrown = new AtomicReference<>();
            CountDownLatch over = new CountDownLatch(1);
            Consumer consumer = connect(group, topic);
            Thread reader = new Thread(() -> {
                try {
                    read(consumer, style, returned, this::body);
                } catch (Throwable e) {
                    thrown.set(e);
                }
                // A thread that lives on holds what it has; one that ends lets go of it.
                try {
                    over.await();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            });
            reader.start();
            try {
                assertTrue(name, inHand.await(30, TimeUnit.SECONDS));
                end(consumer);
            } finally {
                consumer.close();
                over.countDown();
                reader.join(10_000);
            }
            assertFalse(name, reader.isAlive());
            if (style != Style.PROCESS && style != Style.VIEWS) {
                assertEquals(name, BOOM, thrown.get());
            }
            Set<Long> expected = new TreeSet<>();
            for (long offset = base; offset < base + RECORDS; offset++) {
                expected.add(offset);
            }
            expected.removeAll(returned);
            Set<Long> got = new TreeSet<>();
            try (Consumer second = connect(group, topic)) {
                long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(15);
                while (!got.containsAll(expected) && System.nanoTime() < until) {
                    Message m = second.readMsg(100);
                    if (m != null) {
                        got.add(m.getOffset());
                    }
                }
                second.readMsg(0);
            }
            Set<Long> lost = new TreeSet<>(expected);
            lost.removeAll(got);
            assertEquals(name + " lost records: its code had returned from " + returned + " and threw on " + (base + fails), Collections.emptySet(), lost);
            if (style != Style.PROCESS && style != Style.VIEWS) {
                assertEquals(name + ": what was acknowledged does not come again", expected, got);
            }
        }
    }

    private static void rounds(Style style, List<End> ends, Moment[] moments, boolean redis) throws Exception {
        String topic = Tools.topic("throwing");
        RedisConf group = redis ? Tools.redis(topic) : RedisConf.embedded(topic);
        Random random = new Random(SEED + style.ordinal());
        long base = 0;
        for (End end : ends) {
            for (Moment moment : moments) {
                // The hook of the exit flushes producers, too, and says so: none is open then.
                try (Producer producer = Producer.connect(Tools.broker())) {
                    produce(producer, topic, RECORDS);
                }
                new Round(style, end, moment, group, topic, base, random).run(style + ", " + end + ", " + moment + ", seed " + SEED);
                base += RECORDS;
            }
        }
    }

    /** Each style in a thread of its own: they are independent, and disturb each other's timing. */
    private static void allStyles(List<End> ends, Moment[] moments, boolean redis) throws Exception {
        List<Throwable> failed = Collections.synchronizedList(new ArrayList<>());
        List<Thread> threads = new ArrayList<>();
        for (Style style : Style.values()) {
            Thread thread = new Thread(() -> {
                try {
                    rounds(style, ends, moments, redis);
                } catch (Throwable e) {
                    failed.add(e);
                }
            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        AssertionError all = failed.isEmpty() ? null : new AssertionError(failed.toString());
        if (all != null) {
            failed.forEach(all::addSuppressed);
            throw all;
        }
    }

    @Test
    public void noStyleLosesARecordHoweverItsConsumerEnds() throws Exception {
        Tools.onOneJdkOnly();
        allStyles(List.of(End.CLOSE, End.CLOSE_AND_WAIT), Moment.values(), false);
        // Each of them writes a line to the log.
        allStyles(List.of(End.DEFECT), new Moment[] {Moment.LATE}, false);
    }

    @Test
    public void noStyleLosesARecordOfAGroupInRedis() throws Exception {
        Tools.onOneJdkOnly();
        allStyles(List.of(End.CLOSE, End.CLOSE_AND_WAIT), new Moment[] {Moment.AT_ONCE, Moment.LATE}, true);
    }

    /** It ends all clients of the process. Loops that nobody goes on with keep it waiting for 3 s: ExitTest has one of them. */
    @Test
    public void noHandlerLosesARecordToTheExitHook() throws Exception {
        Tools.onOneJdkOnly();
        rounds(Style.PROCESS, List.of(End.EXIT_HOOK), Moment.values(), false);
        rounds(Style.VIEWS, List.of(End.EXIT_HOOK), Moment.values(), false);
    }

    private static void aHandlerThrowsWhileCloseWaits(boolean redis) throws Exception {
        String topic = Tools.topic("throwing");
        RedisConf group = redis ? Tools.redis(topic) : RedisConf.embedded(topic);
        try (Producer producer = Producer.connect(Tools.broker())) {
            produce(producer, topic, 10);
        }
        Set<Long> returned = new ConcurrentSkipListSet<>();
        CountDownLatch inHand = new CountDownLatch(1);
        CountDownLatch go = new CountDownLatch(1);
        Consumer consumer = connect(group, topic);
        Thread worker = new Thread(() -> consumer.process(1, m -> {
            if (m.getOffset() == 3) {
                inHand.countDown();
                go.await();
                throw BOOM;
            }
            returned.add(m.getOffset());
        }));
        worker.start();
        assertTrue(inHand.await(30, TimeUnit.SECONDS));
        Thread closer = new Thread(() -> consumer.close(10_000));
        closer.start();
        Thread.sleep(100);
        go.countDown();
        closer.join(20_000);
        worker.join(20_000);
        assertFalse(closer.isAlive() || worker.isAlive());
        try (Consumer second = connect(group, topic)) {
            Set<Long> got = new TreeSet<>();
            for (int i = returned.size(); i < 10; i++) {
                Message m = second.readMsg(10_000);
                assertNotNull("only " + got + " came again of all but " + returned, m);
                got.add(m.getOffset());
                assertEquals("a record that its closing consumer handed back has not failed", 1, m.getAttempt());
            }
            assertTrue(String.valueOf(got), got.contains(3L));
        }
    }

    @Test
    public void aHandlerThatThrowsWhileCloseWaitsKeepsItsMessage() throws Exception {
        aHandlerThrowsWhileCloseWaits(false);
        aHandlerThrowsWhileCloseWaits(true);
    }

    /** The lease is over while user code works; what it throws afterwards is about a record that somebody else has. */
    @Test
    public void whatIsThrownAfterTheLeaseWasRevokedChangesNothing() throws Exception {
        Tools.onOneJdkOnly();
        for (Style style : new Style[] {Style.PROCESS, Style.VIEWS, Style.MESSAGES}) {
            String topic = Tools.topic("throwing");
            try (Producer producer = Producer.connect(Tools.broker())) {
                produce(producer, topic, RECORDS);
            }
            Set<Long> returned = new ConcurrentSkipListSet<>();
            CountDownLatch revoked = new CountDownLatch(1);
            AtomicInteger threw = new AtomicInteger();
            BrokerConf[] brokers = {Tools.broker()};
            KafkaConf conf = conf().set("max-processing-ms", 300);
            Consumer first = Consumer.connect(conf, brokers, RedisConf.embedded(topic), topic);
            Thread reader = new Thread(() -> {
                try {
                    read(first, style, returned, offset -> {
                        if (offset == 2 && threw.getAndIncrement() == 0) {
                            awaitQuietly(revoked);
                            throw BOOM;
                        }
                    });
                } catch (IllegalStateException e) {
                    // The loop ends by it.
                    assertEquals(BOOM, e);
                }
            });
            reader.start();
            try (Consumer second = Consumer.connect(conf, brokers, RedisConf.embedded(topic), topic)) {
                Tools.await("the unit to be taken away", 30_000, () -> first.stats().getUnitsStuck() > 0);
                revoked.countDown();
                Tools.await("all records", 30_000, () -> {
                    Message m = second.readMsg(50);
                    if (m != null) {
                        returned.add(m.getOffset());
                    }
                    return returned.size() == RECORDS;
                });
            } finally {
                first.close();
            }
            reader.join(10_000);
            assertFalse(reader.isAlive());
        }
    }

    private static void awaitQuietly(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    @Test
    public void aViewWhoseHandlerThrowsComesAgainAlthoughItsThreadGoesOn() {
        String topic = Tools.topic("throwing");
        try (Producer producer = Producer.connect(Tools.broker())) {
            produce(producer, topic, 4);
        }
        for (Throwable thrown : new Throwable[] {BOOM, new java.io.IOException("checked"), new AssertionError("an error")}) {
            String group = Tools.topic("g");
            List<String> seen = new ArrayList<>();
            try (Consumer consumer = connect(RedisConf.embedded(group), topic)) {
                Throwable got = assertThrows(Throwable.class, () -> {
                    while (true) {
                        consumer.forEachView(2, 30_000, (meta, value) -> {
                            seen.add(meta.getOffset() + "/" + meta.getAttempt());
                            if (meta.getOffset() == 1) {
                                ThrowingTest.<RuntimeException>sneak(thrown);
                            }
                        });
                    }
                });
                assertTrue(String.valueOf(got), got == thrown || got.getCause() == thrown);
                while (seen.size() < 5) {
                    assertEquals(1, consumer.forEachView(1, 30_000, (meta, value) -> seen.add(meta.getOffset() + "/" + meta.getAttempt())));
                }
                assertNull(consumer.readMsg(200));
            }
            Collections.sort(seen);
            // What was behind it in its unit may count as tried, too.
            assertEquals(List.of("0/1", "1/1", "1/2"), seen.subList(0, 3));
            assertEquals("2", seen.get(3).substring(0, 1));
            assertEquals("3", seen.get(4).substring(0, 1));
        }
    }

    @SuppressWarnings("unchecked")
    private static <T extends Throwable> void sneak(Throwable e) throws T {
        throw (T) e;
    }

    @Test
    public void aHandlerCannotAskItsOwnConsumer() throws Exception {
        String topic = Tools.topic("throwing");
        String other = Tools.topic("other");
        try (Producer producer = Producer.connect(Tools.broker())) {
            produce(producer, topic, 1);
            produce(producer, other, 1);
        }
        try (Consumer consumer = connect(RedisConf.embedded(topic), topic); Consumer another = connect(RedisConf.embedded(other), other)) {
            List<Runnable> asks = List.of(consumer::readMsg, () -> consumer.readMsg(0), () -> consumer.readBatch(1, 0), () -> consumer.iterator().hasNext(),
                () -> consumer.iterator().next(), () -> consumer.forEachView(1, 0, (meta, value) -> { }));
            AtomicReference<Throwable> failed = new AtomicReference<>();
            AtomicInteger attempts = new AtomicInteger();
            Thread worker = new Thread(() -> consumer.process(1, m -> {
                try {
                    for (Runnable ask : asks) {
                        String text = assertThrows(IllegalStateException.class, ask::run).getMessage();
                        assertTrue(text, text.startsWith("A handler of process or forEachView asks its own consumer"));
                    }
                    if (attempts.incrementAndGet() == 1) {
                        assertNotNull("another consumer may be read", another.readMsg(30_000));
                        consumer.readMsg();
                    }
                } catch (AssertionError e) {
                    failed.set(e);
                }
            }));
            worker.start();
            Tools.await("the message to come again, whose handler asked", 30_000, () -> attempts.get() == 2 || failed.get() != null);
            assertNull(String.valueOf(failed.get()), failed.get());
            Thread.sleep(50);
            consumer.close(5_000);
            worker.join(10_000);
            assertFalse(worker.isAlive());
        }
        // After a view that failed so its thread may ask again.
        try (Consumer consumer = connect(RedisConf.embedded(Tools.topic("g")), topic)) {
            assertThrows(IllegalStateException.class, () -> consumer.forEachView(1, 30_000, (meta, value) -> consumer.readMsg()));
            assertEquals("the message comes again", 0, consumer.readMsg(30_000).getOffset());
        }
    }
}
