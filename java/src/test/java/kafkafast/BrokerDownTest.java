package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.Test;

/** What needs a broker of one's own: one that goes away, one that is set up wrongly. */
public class BrokerDownTest {
    private static void contains(Throwable e, String... parts) {
        for (String part : parts) {
            assertTrue(e + " should say: " + part, String.valueOf(e.getMessage()).contains(part));
        }
    }

    @Test
    public void wrongAdvertisedListeners() throws Exception {
        try (OwnBroker broker = new OwnBroker("kafka-nowhere.invalid:9092", "")) {
            KafkaConf conf = new KafkaConf();
            conf.setMetadataTimeout(3000);
            AtomicReference<Throwable> thrown = new AtomicReference<>();
            // Said by connect, or by the first use of a topic.
            try (Producer producer = Producer.connect(conf.set("max.block.ms", 3000), broker.address())) {
                producer.sendMsg("data", new byte[1]);
                producer.close(0);
            } catch (KafkaFastException e) {
                thrown.set(e);
            }
            assertNotNull("it is told", thrown.get());
            contains(thrown.get(), "kafka-nowhere.invalid:9092", "advertised.listeners");
        }
    }

    @Test
    public void unknownTopic() throws Exception {
        try (OwnBroker broker = new OwnBroker(null, "auto.create.topics.enable=false")) {
            KafkaConf conf = new KafkaConf().set("max.block.ms", 2000);
            try (Producer producer = Producer.connect(conf, broker.address())) {
                contains(assertThrows(UnknownTopicException.class, () -> producer.sendMsg("data", new byte[1])),
                    "Topic \"data\" does not exist and auto-creation is off", "kafka-topics.sh --create --topic data");
            }
        }
    }

    /** Fills the buffer from another thread until it waits there. */
    private static Thread filler(Producer producer, String topic, AtomicReference<Throwable> ended) throws InterruptedException {
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    producer.sendMsg(topic, new byte[10_000]);
                }
            } catch (Throwable e) {
                ended.set(e);
            }
        });
        thread.start();
        Tools.await("a sender that waits", 20_000, () -> thread.getState() == Thread.State.TIMED_WAITING && producer.stats().getWaitingCalls() > 0);
        return thread;
    }

    @Test
    public void aBrokerThatGoesAwayAndComesBack() throws Exception {
        try (OwnBroker broker = new OwnBroker(null, "")) {
            String topic = Tools.topic("down");
            KafkaConf small = new KafkaConf().set("buffer.memory", 1 << 20).set("batch-byte-limit", 500_000).set("batch.size", 100_000);
            Producer impatient = Producer.connect(small.set("max.block.ms", 1500), broker.address());
            Producer patient = Producer.connect(small.set("max.block.ms", 60_000), broker.address());
            Producer closed = Producer.connect(small, broker.address());
            KafkaConf earliest = new KafkaConf();
            earliest.setUseEarliest(true);
            Consumer consumer = Consumer.connect(earliest, new BrokerConf[] {broker.address()}, RedisConf.embedded(Tools.topic("g")), topic);
            for (Producer producer : new Producer[] {impatient, patient, closed}) {
                producer.send(topic, null, new byte[1]).get();
            }
            broker.kill();

            // Text 22.
            TimeoutException full = assertThrows(TimeoutException.class, () -> {
                for (int i = 0; i < 1000; i++) {
                    impatient.sendMsg(topic, new byte[10_000]);
                }
            });
            contains(full, "No room within max.block.ms=1500", "broker 1");

            // An interrupt ends the wait, and the flag is set.
            AtomicReference<Throwable> ended = new AtomicReference<>();
            Thread waiting = filler(patient, topic, ended);
            long start = System.nanoTime();
            waiting.interrupt();
            waiting.join(5000);
            assertFalse(waiting.isAlive());
            assertTrue(String.valueOf(ended.get()), ended.get() instanceof InterruptException);
            assertTrue("at once", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(1));

            // So does close, which says what it could not send.
            Thread other = filler(closed, topic, ended);
            TimeoutException lost = assertThrows(TimeoutException.class, () -> closed.close(300));
            contains(lost, "records were not sent");
            other.join(5000);
            assertFalse(other.isAlive());
            assertTrue(String.valueOf(ended.get()), ended.get() instanceof IllegalStateException);
            closed.close();

            // A flush has its time.
            assertThrows(TimeoutException.class, () -> patient.flush(300));

            // It comes back, and what was taken arrives.
            broker.start();
            List<CompletableFuture<RecordMetadata>> futures = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                futures.add(patient.send(topic, null, new byte[10_000]));
            }
            for (CompletableFuture<RecordMetadata> future : futures) {
                assertTrue(future.get(60, TimeUnit.SECONDS).offset() > 0);
            }
            assertEquals(0, patient.stats().getFailedRecords());
            patient.close();
            impatient.close();
            long sent = patient.stats().getDeliveredRecords() + impatient.stats().getDeliveredRecords() + 1;
            long read = 0;
            while (read < sent) {
                assertNotNull("after " + read + " of " + sent, consumer.readMsg(60_000));
                read++;
            }
            consumer.close();
        }
        Tools.assertNoThreadsLeft(2000);
    }
}
