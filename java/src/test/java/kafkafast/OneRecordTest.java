package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.Test;

/** A record whose handler fails, in whatever way, is put aside at last; the others are handled, and {@code process} goes on. */
public class OneRecordTest {
    private static final int WORKERS = 2;
    private static final long BAD = 3;

    /** No Exception and no Error, as other languages of the JVM can throw it. */
    private static final class Strange extends Throwable {
        private static final long serialVersionUID = 1L;
    }

    /** Its text cannot be had. */
    private static final class Silent extends RuntimeException {
        private static final long serialVersionUID = 1L;
        private final int how;

        Silent(int how) {
            this.how = how;
        }

        @Override
        public String getMessage() {
            if (how == 0) {
                throw new IllegalStateException("getMessage failed");
            }
            return super.getMessage();
        }

        @Override
        public String toString() {
            if (how == 1) {
                throw new AssertionError("toString failed");
            }
            return how == 2 ? null : super.toString();
        }
    }

    @SuppressWarnings("unchecked")
    private static <T extends Throwable> void sneak(Throwable e) throws T {
        throw (T) e;
    }

    private static int deep(int n) {
        return n < 0 ? 0 : deep(n + 1) + 1;
    }

    /** A log that fails on every line of consumers, as one may whose disk is full. */
    private static final class BrokenLog extends java.util.logging.Handler {
        private final AtomicInteger lines = new AtomicInteger();

        @Override
        public void publish(LogRecord record) {
            if (lines.incrementAndGet() % 2 == 0) {
                throw new LinkageError("the log failed");
            }
            throw new IllegalStateException("the log failed");
        }

        @Override
        public void flush() { }

        @Override
        public void close() { }
    }

    /** Handles records while more of them come, until the bad one has come twice or more and comes no more. */
    private static void assertPutAside(String what, Handler bad) throws Exception {
        String topic = Tools.topic("one");
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("retry-backoff-ms", 30).set("max-attempts", 2);
        Set<Long> handled = ConcurrentHashMap.newKeySet();
        List<Integer> attempts = Collections.synchronizedList(new ArrayList<>());
        AtomicReference<Throwable> ended = new AtomicReference<>();
        try (Producer producer = Producer.connect(new KafkaConf().set("linger.ms", 0), Tools.broker());
            Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, RedisConf.embedded(topic), topic)) {
            Thread caller = new Thread(() -> {
                try {
                    consumer.process(WORKERS, m -> {
                        if (m.getOffset() == BAD) {
                            attempts.add(m.getAttempt());
                            bad.handle(m);
                        }
                        handled.add(m.getOffset());
                    });
                } catch (Throwable e) {
                    ended.set(e);
                }
            });
            caller.start();
            int sent = 0;
            int quiet = 0;
            long last = 0;
            // Others succeed between its attempts. It is put aside when many have been handled since its last one.
            while (quiet < 40) {
                producer.sendText(topic, "record");
                producer.flush();
                sent++;
                Thread.sleep(5);
                quiet = attempts.size() < 2 || attempts.size() != last ? 0 : quiet + 1;
                last = attempts.size();
                assertTrue(what + ": process has ended: " + ended.get(), caller.isAlive());
                assertTrue(what + ": attempts " + attempts + " after " + sent + " records", sent < 2_000);
            }
            int total = sent;
            Tools.await(what + ": all others of " + total, 30_000, () -> handled.size() == total - 1);
            assertFalse(what, handled.contains(BAD));
            assertEquals(what + ": it counts as an attempt", 2, (int) attempts.get(attempts.size() - 1));
            assertTrue(what + " " + attempts, attempts.size() <= 4);
            long workers = Thread.getAllStackTraces().keySet().stream().filter(t -> t.getName().startsWith("kafkafast-worker-")).count();
            assertEquals(what + ": threads live on", WORKERS, workers);
            consumer.close(5_000);
            caller.join(10_000);
            assertFalse(what, caller.isAlive());
            assertNull(what, ended.get());
        }
    }

    @Test
    public void whateverAHandlerThrowsItsRecordAloneIsPutAside() throws Exception {
        Map<String, Handler> ways = new LinkedHashMap<>();
        ways.put("InterruptedException of a thread that nobody interrupted", m -> {
            throw new InterruptedException("of the handler's own");
        });
        ways.put("getMessage throws", m -> {
            throw new Silent(0);
        });
        ways.put("toString throws", m -> {
            throw new Silent(1);
        });
        ways.put("toString is null", m -> {
            throw new Silent(2);
        });
        ways.put("a text of a megabyte", m -> {
            throw new IllegalStateException("x".repeat(1 << 20));
        });
        ways.put("StackOverflowError", m -> deep(0));
        ways.put("OutOfMemoryError of the JVM", m -> {
            long[][] more = new long[8][];
            for (int i = 0; i < more.length; i++) {
                more[i] = new long[Integer.MAX_VALUE];
            }
        });
        ways.put("neither Exception nor Error", m -> OneRecordTest.<RuntimeException>sneak(new Strange()));
        for (Map.Entry<String, Handler> way : ways.entrySet()) {
            assertPutAside(way.getKey(), way.getValue());
        }
    }

    @Test
    public void aLogThatFailsDecidesNothing() throws Exception {
        Logger logger = Logger.getLogger("kafkafast.consumer");
        BrokenLog broken = new BrokenLog();
        logger.addHandler(broken);
        try {
            assertPutAside("the log fails", m -> {
                throw new IllegalStateException("the handler failed");
            });
            assertTrue(broken.lines.get() > 0);
        } finally {
            logger.removeHandler(broken);
        }
    }

    /** The flag is of a handler that has returned, and no reason for the next message's thread to end. */
    @Test
    public void aFlagThatAHandlerLeavesEndsNoThread() throws Exception {
        String topic = Tools.topic("one");
        AtomicInteger handled = new AtomicInteger();
        AtomicInteger interrupted = new AtomicInteger();
        try (Producer producer = Producer.connect(Tools.broker()); Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            Thread caller = new Thread(() -> consumer.process(1, m -> {
                if (Thread.currentThread().isInterrupted()) {
                    interrupted.incrementAndGet();
                }
                handled.incrementAndGet();
                Thread.currentThread().interrupt();
            }));
            caller.start();
            for (int i = 1; i <= 5; i++) {
                int sent = i;
                producer.sendText(topic, "record");
                producer.flush();
                // Between two of them its thread waits.
                Tools.await("record " + i, 10_000, () -> handled.get() == sent);
            }
            assertTrue(caller.isAlive());
            assertEquals("each handler begins with a flag of its own", 0, interrupted.get());
            consumer.close(5_000);
            caller.join(10_000);
            assertFalse(caller.isAlive());
        }
    }

    @Test
    public void anExceptionWithoutATextEndsAViewOnly() throws Exception {
        String topic = Tools.topic("one");
        try (Producer producer = Producer.connect(Tools.broker()); Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            producer.sendText(topic, "record");
            producer.flush();
            Silent silent = new Silent(1);
            try {
                consumer.forEachView(1, 20_000, (meta, value) -> {
                    throw silent;
                });
            } catch (Silent e) {
                assertEquals(silent, e);
            }
            Message again = consumer.readMsg(20_000);
            assertTrue("it comes again", again != null && again.getOffset() == 0);
        }
    }
}
