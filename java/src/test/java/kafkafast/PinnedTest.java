package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.Test;

/** A thread that has messages in hands and asks for nothing: it keeps those, others get the rest. Against a real broker. */
public class PinnedTest {
    private static final int RECORDS = 100;

    private interface Ask {
        /** The messages that one ask brings; none when nothing comes. */
        List<String> ask(Consumer consumer, boolean first);
    }

    private static List<String> texts(Message message) {
        List<String> texts = new ArrayList<>();
        if (message != null) {
            texts.add(message.text());
        }
        return texts;
    }

    private static List<String> byReadMsg(Consumer consumer, boolean first) {
        return texts(consumer.readMsg(first ? 30_000 : 500));
    }

    private static List<String> byReadBatch(Consumer consumer, boolean first) {
        List<String> texts = new ArrayList<>();
        consumer.readBatch(3, first ? 30_000 : 500).forEach(message -> texts.add(message.text()));
        return texts;
    }

    /** Reserved by hasNext, taken after the others have read the rest. */
    private static List<String> byHasNext(Consumer consumer, boolean first) {
        if (!first) {
            return byReadMsg(consumer, false);
        }
        Iterator<Message> messages = consumer.iterator();
        assertTrue(messages.hasNext());
        return new ArrayList<>();
    }

    private static void produce(String topic) {
        KafkaConf conf = new KafkaConf().set("linger.ms", "1000");
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            for (int i = 0; i < RECORDS; i++) {
                producer.sendText(topic, String.valueOf(i));
            }
        }
    }

    private static Consumer connect(RedisConf group, String topic) {
        return Consumer.connect(new KafkaConf().set("use-earliest", true), new BrokerConf[] {Tools.broker()}, group, topic);
    }

    /** A thread asks once, and then not before others have read all but so many messages. */
    private static void othersGetAllBut(int kept, RedisConf group, String topic, Ask style) throws Exception {
        produce(topic);
        CountDownLatch taken = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        List<String> read = new CopyOnWriteArrayList<>();
        AtomicReference<Throwable> failed = new AtomicReference<>();
        try (Consumer sits = connect(group, topic); Consumer other = connect(group, topic)) {
            Thread thread = new Thread(() -> {
                try {
                    read.addAll(style.ask(sits, true));
                    taken.countDown();
                    assertTrue(goOn.await(60, TimeUnit.SECONDS));
                    for (List<String> more = style.ask(sits, false); !more.isEmpty(); more = style.ask(sits, false)) {
                        read.addAll(more);
                    }
                } catch (Throwable e) {
                    failed.set(e);
                }
            });
            thread.start();
            assertTrue(taken.await(30, TimeUnit.SECONDS));
            for (int i = 0; i < RECORDS - kept; i++) {
                Message message = other.readMsg(20_000);
                assertNotNull(i + " of " + (RECORDS - kept) + " were read", message);
                read.add(message.text());
            }
            assertNull("those in hand stay", other.readMsg(500));
            goOn.countDown();
            thread.join(60_000);
            assertNull(String.valueOf(failed.get()), failed.get());
            assertEquals("none twice: " + read, RECORDS, read.size());
            assertEquals(RECORDS, new TreeSet<>(read).size());
            assertEquals(0, sits.stats().getUnitsFenced() + other.stats().getUnitsFenced());
        }
        try (Consumer last = connect(group, topic)) {
            assertNull("all was acknowledged", last.readMsg(500));
        }
    }

    @Test
    public void oneMessageStaysWithAThreadThatStopsAsking() throws Exception {
        othersGetAllBut(1, RedisConf.embedded(Tools.topic("g")), Tools.topic("one"), PinnedTest::byReadMsg);
    }

    @Test
    public void aBatchStaysWithAThreadThatStopsAsking() throws Exception {
        othersGetAllBut(3, RedisConf.embedded(Tools.topic("g")), Tools.topic("batch"), PinnedTest::byReadBatch);
    }

    @Test
    public void aReservedMessageStaysWithAThreadThatStopsAsking() throws Exception {
        othersGetAllBut(1, RedisConf.embedded(Tools.topic("g")), Tools.topic("reserved"), PinnedTest::byHasNext);
    }

    @Test
    public void oneMessageStaysWithAThreadThatStopsAskingInARedisGroup() throws Exception {
        othersGetAllBut(1, Tools.redis(Tools.topic("g")), Tools.topic("redis"), PinnedTest::byReadMsg);
    }

    /** Claims of several messages at once, while others wait: threads that are now and then slow, and read each message once. */
    @Test
    public void threadsThatAreSlowNowAndThenReadEachMessageOnce() throws Exception {
        Tools.onOneJdkOnly();
        String topic = Tools.topic("now-and-then");
        int count = 60_000;
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("unit-target-ms", 20);
        try (Producer producer = Producer.connect(Tools.broker());
                Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, RedisConf.embedded(Tools.topic("g")), topic)) {
            for (int i = 0; i < count; i++) {
                producer.sendText(topic, String.valueOf(i));
            }
            producer.flush();
            AtomicIntegerArray read = new AtomicIntegerArray(count);
            AtomicInteger left = new AtomicInteger(count);
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < 4; t++) {
                int mine = t;
                threads.add(new Thread(() -> {
                    Random dice = new Random(mine);
                    // Who has read the last one asks once more: else it would end with that in hands, and it would come again.
                    for (Message message = consumer.readMsg(200); message != null || left.get() > 0; message = consumer.readMsg(200)) {
                        if (message != null) {
                            read.incrementAndGet(Integer.parseInt(message.text()));
                            left.decrementAndGet();
                            if (dice.nextInt(1000) == 0) {
                                LockSupport.parkNanos(60_000_000);
                            }
                        }
                    }
                }));
            }
            threads.forEach(Thread::start);
            for (Thread thread : threads) {
                thread.join(60_000);
            }
            assertEquals(0, left.get());
            for (int i = 0; i < count; i++) {
                assertEquals("message " + i, 1, read.get(i));
            }
            assertEquals(0, consumer.stats().getUnitsFenced());
        }
    }

    @Test
    public void aThreadThatEndsWithAMessageInHandsIsOneWarning() throws Exception {
        List<String> lines = new CopyOnWriteArrayList<>();
        Handler handler = new Handler() {
            @Override
            public void publish(LogRecord record) {
                lines.add(record.getLevel() + " " + record.getMessage());
            }

            @Override
            public void flush() {
                // Nothing is held.
            }

            @Override
            public void close() {
                // Nothing is held.
            }
        };
        Logger logger = Logger.getLogger("kafkafast.consumer");
        logger.addHandler(handler);
        String topic = Tools.topic("ends");
        produce(topic);
        try (Consumer consumer = connect(RedisConf.embedded(Tools.topic("g")), topic)) {
            List<String> had = new CopyOnWriteArrayList<>();
            Thread thread = new Thread(() -> had.addAll(byReadMsg(consumer, true)), "who-ends");
            thread.start();
            thread.join(60_000);
            assertFalse(had.isEmpty());
            Tools.await("the line", 20_000, () -> lines.stream().anyMatch(line -> line.contains("who-ends")));
            List<String> told = new ArrayList<>(lines);
            told.removeIf(line -> !line.contains("who-ends"));
            assertEquals("[WARNING Thread who-ends ended with " + topic + "/0@" + had.get(0) + " in hands: that comes again. Only asking for the next "
                + "message acknowledges one]", told.toString());
            // It comes again, and a thread that asks on is none that ends with a message.
            TreeSet<String> read = new TreeSet<>();
            for (int i = 0; i < RECORDS; i++) {
                assertTrue(read.addAll(byReadMsg(consumer, true)));
            }
            assertNull(consumer.readMsg(300));
        } finally {
            logger.removeHandler(handler);
        }
    }
}
