package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.Test;

/** What the counters say, held against what was done. */
public class StatsTest {
    private static void produce(String topic, int count) {
        try (Producer producer = Producer.connect(Tools.broker())) {
            for (int i = 0; i < count; i++) {
                producer.sendText(topic, String.valueOf(i));
            }
        }
    }

    private static void next(Consumer consumer) {
        assertNotNull("a message within 30 s", consumer.readMsg(30_000));
    }

    /** In every style, and although handlers fail, whose chunks go back. */
    @Test
    public void theCounterOfMessagesCountsHandOuts() throws Exception {
        String topic = Tools.topic("count");
        int count = 300;
        produce(topic, count);
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("retry-backoff-ms", 20);
        BrokerConf[] brokers = {Tools.broker()};
        AtomicInteger calls = new AtomicInteger();
        Set<Integer> handled = ConcurrentHashMap.newKeySet();
        Set<Integer> failed = ConcurrentHashMap.newKeySet();
        Consumer consumer = Consumer.connect(conf, brokers, RedisConf.embedded(Tools.topic("g")), topic);
        Thread caller = new Thread(() -> consumer.process(3, m -> {
            calls.incrementAndGet();
            int number = Integer.parseInt(m.text());
            if (number % 10 == 0 && failed.add(number)) {
                throw new IllegalStateException("not yet");
            }
            handled.add(number);
        }));
        caller.start();
        Tools.await("all of them", 60_000, () -> handled.size() == count);
        consumer.close(10_000);
        caller.join(10_000);
        assertEquals(calls.get(), consumer.stats().getMessages());
        assertTrue("some came again", calls.get() > count);
        try (Consumer other = Consumer.connect(conf, brokers, RedisConf.embedded(Tools.topic("g")), topic)) {
            next(other);
            assertEquals("at once, and not when its unit is done", 1, other.stats().getMessages());
            long expected = 1 + other.readBatch(5, 30_000).size();
            assertEquals(expected, other.stats().getMessages());
            expected += other.forEachView(7, 30_000, (meta, value) -> { });
            assertEquals(expected, other.stats().getMessages());
            next(other);
            assertEquals(expected + 1, other.stats().getMessages());
            for (long i = other.stats().getMessages(); i < count; i++) {
                next(other);
            }
            assertNull(other.readMsg(50));
            assertEquals(count, other.stats().getMessages());
        }
    }
}
