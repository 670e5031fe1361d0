package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.Test;

/** What failed too often is seen, and released, from Java. */
public class QuarantineTest {
    private static final int MESSAGES = 200;

    /** Message 50 fails until it is mended; the others show that the handler works, so its attempts count. */
    private static void isSeenAndReleased(RedisConf group) throws Exception {
        String topic = Tools.topic("aside");
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("max-attempts", 2).set("retry-backoff-ms", 20).set("consume-step", 1)
            .set("heartbeat-ms", 100);
        Set<Integer> handled = ConcurrentHashMap.newKeySet();
        AtomicBoolean mended = new AtomicBoolean();
        try (Producer producer = Producer.connect(Tools.broker());
                Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, group, topic)) {
            for (int i = 0; i < MESSAGES; i++) {
                producer.sendText(topic, String.valueOf(i));
            }
            producer.flush();
            assertTrue(consumer.quarantined().isEmpty());
            Instant began = Instant.now();
            Thread works = new Thread(() -> consumer.process(2, message -> {
                int number = Integer.parseInt(message.text());
                if (number == 50 && !mended.get()) {
                    throw new IllegalStateException("not mended yet");
                }
                Thread.sleep(2);
                handled.add(number);
            }));
            works.start();
            Tools.await("one is quarantined", 60_000, () -> !consumer.quarantined().isEmpty());
            List<Quarantined> units = consumer.quarantined();
            assertEquals(units.toString(), 1, units.size());
            Quarantined unit = units.get(0);
            assertEquals(topic, unit.getTopic());
            assertEquals(0, unit.getPartition());
            assertEquals(unit.getFrom() + 1, unit.getTo());
            Duration off = Duration.between(began, unit.getSince());
            assertTrue(unit + ", begun at " + began, off.toMillis() > -2_000 && off.toMillis() < 60_000);
            Tools.await("the others are handled", 60_000, () -> handled.size() == MESSAGES - 1);
            Tools.await("it is counted", 30_000, () -> consumer.stats().getUnitsQuarantined() > 0);

            mended.set(true);
            assertFalse(consumer.release(topic, 0, unit.getTo()));
            assertFalse(consumer.release(topic + "-other", 0, unit.getFrom()));
            assertTrue(consumer.release(topic, 0, unit.getFrom()));
            Tools.await("it is handled", 30_000, () -> handled.size() == MESSAGES);
            Tools.await("nothing is quarantined", 30_000, () -> consumer.quarantined().isEmpty());
            assertFalse(consumer.release(topic, 0, unit.getFrom()));
            assertEquals(0, consumer.stats().getPartitionsBlocked());
            consumer.close(10_000);
            works.join(20_000);
            assertFalse(works.isAlive());
            assertThrows(IllegalStateException.class, consumer::quarantined);
            assertThrows(IllegalStateException.class, () -> consumer.release(topic, 0, 0));
        }
    }

    @Test
    public void inThisProcess() throws Exception {
        isSeenAndReleased(RedisConf.embedded(Tools.topic("group")));
    }

    @Test
    public void inRedis() throws Exception {
        isSeenAndReleased(Tools.redis(Tools.topic("group")));
    }
}
