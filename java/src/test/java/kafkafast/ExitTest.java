package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.Test;

/** How a JVM with open clients ends. */
public class ExitTest {
    /** Sends, or reads, and then waits to be killed; never closes. */
    public static final class Forgetful {
        private Forgetful() {}

        public static void main(String[] args) throws Exception {
            String[] address = args[1].split(":");
            BrokerConf broker = new BrokerConf(address[0], Integer.parseInt(address[1]));
            KafkaConf conf = new KafkaConf();
            // Long enough that only the exit sends it.
            conf.setQueueBufferingMaxMs(60_000);
            if (args[0].equals("hold")) {
                conf.set("use-earliest", true).set("lease-ms", 120_000);
                Consumer consumer = Consumer.connect(conf, new BrokerConf[] {broker}, new RedisConf(args[3], Integer.parseInt(args[4]), args[2]), args[2]);
                while (!consumer.readMsg().text().equals("4")) { }
                System.out.println("HOLD");
                Thread.sleep(60_000);
            }
            if (args[0].equals("process")) {
                process(conf.set("use-earliest", true).set("lease-ms", 120_000), broker, new RedisConf(args[3], Integer.parseInt(args[4]), args[2]), args[2]);
            }
            if (args[0].equals("read")) {
                conf.setUseEarliest(true);
                Consumer consumer = Consumer.connect(conf, new BrokerConf[] {broker}, RedisConf.embedded("g"), args[2]);
                System.out.println("READ " + consumer.readMsg().text());
                consumer.readMsg();
                System.out.println("ENDED");
                return;
            }
            Producer producer = Producer.connect(conf, broker);
            for (int i = 0; i < 12; i++) {
                producer.sendText(args[2], "m" + i);
            }
            System.out.println("SENT");
            if (args[0].equals("exit")) {
                System.exit(3);
            }
            Thread.sleep(args[0].equals("wait") ? 60_000 : 0);
        }
    }

    /** Handles four records, and needs for the next one what the application's own hook closes. */
    private static void process(KafkaConf conf, BrokerConf broker, RedisConf group, String topic) {
        CountDownLatch closed = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                // The consumer is closing by then.
                Thread.sleep(500);
            } catch (InterruptedException e) {
                return;
            }
            closed.countDown();
        }));
        Consumer consumer = Consumer.connect(conf, new BrokerConf[] {broker}, group, topic);
        consumer.process(1, m -> {
            if (m.getOffset() == 4) {
                System.out.println("HOLD");
                closed.await();
                throw new IllegalStateException("the pool is closed");
            }
        });
    }

    private static Tools.Child start(List<String> jvm, String how, String topic) throws Exception {
        return new Tools.Child(jvm, Forgetful.class, how, Tools.broker().toString(), topic);
    }

    private static void assertAllThere(String topic) {
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            for (int i = 0; i < 12; i++) {
                Message m = consumer.readMsg(20_000);
                assertNotNull("m" + i, m);
                assertEquals("m" + i, m.text());
            }
        }
    }

    private static final String WARNING = "Producer was not closed; 12 records flushed at exit. Use try-with-resources";

    @Test
    public void theEndOfMainFlushes() throws Exception {
        String topic = Tools.topic("exit");
        Tools.Child child = start(Collections.emptyList(), "main", topic);
        child.assertExit(0, 20);
        assertTrue(child.output(), child.output().contains(WARNING));
        assertAllThere(topic);
    }

    @Test
    public void systemExitFlushes() throws Exception {
        String topic = Tools.topic("exit");
        Tools.Child child = start(Collections.emptyList(), "exit", topic);
        child.assertExit(3, 20);
        assertTrue(child.output(), child.output().contains(WARNING));
        assertAllThere(topic);
    }

    @Test
    public void sigtermFlushes() throws Exception {
        String topic = Tools.topic("exit");
        Tools.Child child = start(Collections.emptyList(), "wait", topic);
        Tools.await("it to send", 20_000, () -> child.output().contains("SENT"));
        long start = System.nanoTime();
        child.terminate();
        child.assertExit(143, 20);
        assertTrue("within 5 s", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(6));
        assertTrue(child.output(), child.output().contains(WARNING));
        assertAllThere(topic);
    }

    @Test
    public void sigtermEndsAReader() throws Exception {
        String topic = Tools.topic("exit");
        try (Producer producer = Producer.connect(Tools.broker())) {
            producer.sendText(topic, "one");
        }
        Tools.Child child = start(Collections.emptyList(), "read", topic);
        Tools.await("it to read", 30_000, () -> child.output().contains("READ one"));
        long start = System.nanoTime();
        child.terminate();
        child.assertExit(143, 20);
        assertTrue("within 5 s", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(6));
        assertFalse(child.output(), child.output().contains("Exception"));
    }

    /** Its thread is in the middle of something and will not ask any more. */
    @Test
    public void whatABusyReaderHoldsIsHandedBack() throws Exception {
        assertHandedBack("hold");
    }

    /** The application's hooks run beside ours. */
    @Test
    public void aHandlerThatFailsBecauseTheJvmEndsKeepsItsMessage() throws Exception {
        assertHandedBack("process");
    }

    private static void assertHandedBack(String how) throws Exception {
        String topic = Tools.topic("exit");
        RedisConf redis = Tools.redis(topic);
        try (Producer producer = Producer.connect(Tools.broker())) {
            for (int i = 0; i < 8; i++) {
                producer.sendText(topic, String.valueOf(i));
            }
        }
        Tools.Child child = new Tools.Child(Collections.emptyList(), Forgetful.class, how, Tools.broker().toString(), topic, redis.getHost(),
            String.valueOf(redis.getPort()));
        Tools.await("it to read", 30_000, () -> child.output().contains("HOLD"));
        long start = System.nanoTime();
        child.terminate();
        child.assertExit(143, 20);
        assertTrue("within 5 s", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(6));
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("lease-ms", 120_000);
        try (Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, redis, topic)) {
            for (int i = 4; i < 8; i++) {
                Message m = consumer.readMsg(20_000);
                assertNotNull("long before the lease ends", m);
                assertEquals("what was handled does not come again", String.valueOf(i), m.text());
            }
        }
    }

    @Test
    public void theHookCanBeTurnedOff() throws Exception {
        String topic = Tools.topic("exit");
        Tools.Child child = start(Collections.singletonList("-Dkafkafast.exitHook=false"), "main", topic);
        child.assertExit(0, 20);
        assertFalse(child.output(), child.output().contains("flushed at exit"));
    }
}
