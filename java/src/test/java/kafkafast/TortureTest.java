package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.lang.management.BufferPoolMXBean;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.AtomicReferenceArray;
import javax.management.JMException;
import javax.management.ObjectName;
import org.junit.Test;

/**
 * Sixteen threads that send, read, interrupt and close the same clients at random, in a JVM with a small heap and -Xcheck:jni. The JVM must
 * live, say nothing, and give back threads and memory. KAFKA_FAST_TORTURE_SECONDS makes it longer.
 */
public class TortureTest {
    private static final int THREADS = 16;
    private static final int CLIENTS = 3;

    /** The JVM that is tortured. */
    public static final class Victim {
        private static final AtomicReferenceArray<Producer> PRODUCERS = new AtomicReferenceArray<>(CLIENTS);
        private static final AtomicReferenceArray<Consumer> CONSUMERS = new AtomicReferenceArray<>(CLIENTS);
        private static final AtomicInteger[] COUNTS = new AtomicInteger[8];
        private static final AtomicReference<Throwable> FAILED = new AtomicReference<>();
        private static BrokerConf broker;
        private static String topic;

        private Victim() {}

        public static void main(String[] args) throws Exception {
            String[] address = args[0].split(":");
            broker = new BrokerConf(address[0], Integer.parseInt(address[1]));
            topic = args[1];
            for (int i = 0; i < COUNTS.length; i++) {
                COUNTS[i] = new AtomicInteger();
            }
            // Warm up, so that what is measured later is growth and not the first use.
            round(TimeUnit.SECONDS.toNanos(10));
            settle();
            long before = resident();
            round(TimeUnit.SECONDS.toNanos(Long.parseLong(args[2])));
            settle();
            // Interrupted threads leave clients behind that the collector has to find and the service to close; BoundaryTest holds
            // clients that were closed to 2 s.
            Tools.assertNoThreadsLeft(20_000);
            long grown = resident() - before;
            if (FAILED.get() != null) {
                FAILED.get().printStackTrace();
            }
            System.out.println("DID connects=" + COUNTS[0] + " sends=" + COUNTS[1] + " tracked=" + COUNTS[2] + " reads=" + COUNTS[3] + " closes="
                + COUNTS[4] + " closedErrors=" + COUNTS[5] + " interrupts=" + COUNTS[6] + " lookups=" + COUNTS[7] + " grownKB=" + grown);
            System.out.println(FAILED.get() == null && grown < 64 << 10 ? "SURVIVED" : "FAILED " + grown + " KB grown, " + FAILED.get());
        }

        private static void round(long nanos) throws InterruptedException {
            long end = System.nanoTime() + nanos;
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < THREADS; t++) {
                Random random = new Random(t);
                Thread thread = new Thread(() -> {
                    while (System.nanoTime() < end && FAILED.get() == null) {
                        act(random);
                    }
                }, "torture-" + t);
                thread.start();
                threads.add(thread);
            }
            Random random = new Random(99);
            while (System.nanoTime() < end) {
                Thread.sleep(5);
                threads.get(random.nextInt(THREADS)).interrupt();
            }
            for (Thread thread : threads) {
                thread.join(30_000);
                if (thread.isAlive()) {
                    IllegalStateException stuck = new IllegalStateException(thread + " is stuck");
                    stuck.setStackTrace(thread.getStackTrace());
                    FAILED.compareAndSet(null, stuck);
                }
            }
            for (int i = 0; i < CLIENTS; i++) {
                close(PRODUCERS.getAndSet(i, null));
                close(CONSUMERS.getAndSet(i, null));
            }
        }

        private static void act(Random random) {
            int i = random.nextInt(CLIENTS);
            try {
                int what = random.nextInt(1000);
                if (what < 500) {
                    send(producer(i), random);
                } else if (what < 980) {
                    read(consumer(i), random);
                } else if (what < 990) {
                    COUNTS[4].incrementAndGet();
                    close(PRODUCERS.getAndSet(i, null));
                } else {
                    COUNTS[4].incrementAndGet();
                    close(CONSUMERS.getAndSet(i, null));
                }
            } catch (InterruptException e) {
                COUNTS[6].incrementAndGet();
                if (!Thread.interrupted()) {
                    FAILED.compareAndSet(null, new IllegalStateException("the flag was not set", e));
                }
            } catch (IllegalStateException e) {
                COUNTS[5].incrementAndGet();
                if (!String.valueOf(e.getMessage()).contains("was closed at")) {
                    FAILED.compareAndSet(null, e);
                }
            } catch (Throwable e) {
                FAILED.compareAndSet(null, e);
            }
        }

        private static Producer producer(int i) {
            Producer producer = PRODUCERS.get(i);
            if (producer == null) {
                COUNTS[0].incrementAndGet();
                producer = Producer.connect(new KafkaConf().set("buffer.memory", 2 << 20).set("batch-byte-limit", 1 << 20), broker);
                if (!PRODUCERS.compareAndSet(i, null, producer) && i == 0) {
                    // One that nobody closes: the collector finds it.
                    return producer;
                }
            }
            return producer;
        }

        private static Consumer consumer(int i) {
            Consumer consumer = CONSUMERS.get(i);
            if (consumer == null) {
                COUNTS[0].incrementAndGet();
                consumer = Consumer.connect(new KafkaConf(), new BrokerConf[] {broker}, RedisConf.embedded("torture-" + i), topic);
                if (!CONSUMERS.compareAndSet(i, null, consumer)) {
                    close(consumer);
                    consumer = CONSUMERS.get(i);
                }
            }
            return consumer;
        }

        private static void send(Producer producer, Random random) {
            int kind = random.nextInt(20);
            byte[] bytes = new byte[kind == 0 ? random.nextInt(100_000) : random.nextInt(3_000)];
            if (kind < 14) {
                producer.sendMsg(topic, bytes);
                COUNTS[1].incrementAndGet();
            } else if (kind < 18) {
                producer.send(new ProducerRecord<>(topic, null, null, bytes, kind == 15 ? null : bytes, Arrays.asList(new Header("h", bytes))));
                COUNTS[2].incrementAndGet();
            } else if (kind == 18) {
                producer.send(topic, null, bytes).join();
                COUNTS[2].incrementAndGet();
            } else {
                producer.stats();
                producer.flush(1000);
                COUNTS[7].incrementAndGet();
            }
        }

        private static void read(Consumer consumer, Random random) {
            if (consumer == null) {
                return;
            }
            COUNTS[3].incrementAndGet();
            switch (random.nextInt(8)) {
                case 0:
                    consumer.readBatch(10, 20);
                    break;
                case 1:
                    consumer.forEachView(10, 20, (meta, value) -> {
                        meta.getHeaders();
                        if (value != null && value.hasRemaining()) {
                            value.get(value.limit() - 1);
                        }
                    });
                    break;
                case 2:
                    consumer.stats();
                    break;
                case 3:
                    // A thread that reads once and dies with its message in hand.
                    Thread once = new Thread(() -> {
                        try {
                            consumer.readMsg(10);
                        } catch (KafkaFastException e) {
                            FAILED.compareAndSet(null, e);
                        }
                    });
                    once.start();
                    try {
                        once.join();
                    } catch (InterruptedException e) {
                        throw new InterruptException("join");
                    }
                    break;
                default:
                    Message m = consumer.readMsg(20);
                    if (m != null) {
                        m.getHeaders();
                    }
            }
        }

        private static void close(AutoCloseable client) {
            if (client == null) {
                return;
            }
            try {
                client.close();
            } catch (InterruptException e) {
                throw e;
            } catch (Exception e) {
                FAILED.compareAndSet(null, e);
            }
        }

        private static void settle() throws InterruptedException {
            for (int i = 0; i < 10; i++) {
                System.gc();
                Thread.sleep(100);
            }
            try {
                // What glibc keeps of freed memory is no leak of ours.
                ManagementFactory.getPlatformMBeanServer().invoke(new ObjectName("com.sun.management:type=DiagnosticCommand"), "systemTrimNativeHeap",
                    new Object[0], new String[0]);
            } catch (JMException e) {
                System.out.println("this JVM cannot trim: " + e);
            }
        }

        /** Resident memory in KB without what Java's own heap holds: heap and buffers, and the native side. */
        private static long resident() throws IOException {
            for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
                if (line.startsWith("VmRSS:")) {
                    long direct = 0;
                    for (BufferPoolMXBean pool : ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class)) {
                        direct += pool.getMemoryUsed();
                    }
                    System.out.println(line + ", direct buffers " + direct / 1024 + " kB");
                    return Long.parseLong(line.replaceAll("\\D", ""));
                }
            }
            throw new IOException("no VmRSS");
        }
    }

    @Test
    public void theJvmSurvivesAndSaysNothing() throws Exception {
        String seconds = System.getenv().getOrDefault("KAFKA_FAST_TORTURE_SECONDS", "30");
        List<String> jvm = Arrays.asList("-Xcheck:jni", "-Xmx64m", "-Dfile.encoding=" + StandardCharsets.UTF_8);
        Tools.Child child = new Tools.Child(jvm, Victim.class, Tools.broker().toString(), Tools.topic("torture"), seconds);
        int code = child.await(Long.parseLong(seconds) + 150);
        String out = child.output();
        System.out.println(out);
        assertEquals(out, 0, code);
        assertTrue(out, out.contains("SURVIVED"));
        for (String line : out.split("\n")) {
            String lower = line.toLowerCase(java.util.Locale.ROOT);
            boolean bad = line.contains("JNI") || lower.contains("fatal") || line.contains("panic") || line.contains("SEVERE");
            assertTrue("not expected: " + line, !bad);
        }
    }
}
