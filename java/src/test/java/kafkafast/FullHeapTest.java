package kafkafast;

import static org.junit.Assert.assertEquals;

import java.util.List;
import org.junit.Test;

/**
 * A message for which the heap has no room: it was not handed out, so nothing may count it as handled. It failed, comes again, and is put aside
 * at last, so that it keeps nothing else from being read.
 */
public class FullHeapTest {
    /** With this collector a large array is one piece of the old generation, of 16 MB. */
    private static final List<String> SMALL_HEAP = List.of("-Xmx24m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=512m");
    /** No array holds it. */
    private static final int LARGE = 40 << 20;
    /** One array holds it, and there is no room for another. */
    private static final int HALF = 10 << 20;

    private static String large(int size) {
        String topic = Tools.topic("large");
        KafkaConf conf = new KafkaConf().set("codec", "gzip").set("batch-byte-limit", LARGE + (1 << 20)).set("buffer.memory", 3 * LARGE);
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            producer.sendMsg(topic, new byte[size]);
        }
        return topic;
    }

    private static KafkaConf conf(int attempts) {
        return new KafkaConf().set("use-earliest", true).set("retry-backoff-ms", 50).set("max-attempts", attempts);
    }

    /** Asks again and again, or processes. */
    static final class Small {
        /** One ask; says how many small messages it brought. */
        private static int ask(Consumer consumer, String how) {
            switch (how) {
                case "batch":
                    return consumer.readBatch(10, 1_000).size();
                case "views":
                    return consumer.forEachView(10, 1_000, (meta, value) -> { });
                case "loop":
                    return consumer.iterator().next() == null ? 0 : 1;
                default:
                    return consumer.readMsg(1_000) == null ? 0 : 1;
            }
        }

        /** Until three asks have failed. */
        private static void askThreeTimes(Consumer consumer, String how) {
            for (int full = 0; full < 3;) {
                try {
                    if (ask(consumer, how) > 0) {
                        System.out.println("got one");
                    }
                } catch (OutOfMemoryError e) {
                    System.out.println("full");
                    full++;
                }
            }
        }

        /** Until the large one has failed often enough; others come meanwhile and afterwards. */
        private static void askUntilPutAside(Consumer consumer, Producer producer, String topic, String how) throws Exception {
            int full = 0;
            int since = 0;
            for (int i = 0; since < 60 && i < 1_000; i++) {
                producer.sendText(topic, "small");
                producer.flush();
                try {
                    since += ask(consumer, how);
                } catch (OutOfMemoryError e) {
                    full++;
                    since = 0;
                }
                since = full < 2 ? 0 : since;
                Thread.sleep(5);
            }
            System.out.println(how + (full >= 2 && full <= 4 && since >= 60 ? " put aside" : " failed " + full + ", others since " + since));
        }

        private static void process(Consumer consumer) {
            Thread closer = new Thread(() -> {
                while (consumer.stats().getUnitsFailed() < 2) {
                    try {
                        Thread.sleep(20);
                    } catch (InterruptedException e) {
                        return;
                    }
                }
                System.out.println("goes on");
                consumer.close();
            });
            closer.setDaemon(true);
            closer.start();
            consumer.process(1, m -> System.out.println("handled"));
            System.out.println("returned");
        }

        public static void main(String[] args) throws Exception {
            BrokerConf[] brokers = {new BrokerConf(args[1], Integer.parseInt(args[2]))};
            for (int i = 5; i < args.length; i++) {
                String[] part = args[i].split("=");
                String topic = part[1];
                boolean aside = args[0].equals("aside");
                RedisConf group = new RedisConf(args[3], Integer.parseInt(args[4]), topic);
                try (Consumer consumer = Consumer.connect(conf(aside ? 2 : 20), brokers, group, topic)) {
                    if (aside) {
                        try (Producer producer = Producer.connect(new KafkaConf().set("linger.ms", 0), brokers)) {
                            askUntilPutAside(consumer, producer, topic, part[0]);
                        }
                    } else if (part[0].equals("process")) {
                        process(consumer);
                    } else {
                        askThreeTimes(consumer, part[0]);
                    }
                }
            }
        }
    }

    /** Lines that the child said itself. */
    private static String run(String mode, String... styles) throws Exception {
        RedisConf redis = Tools.redis("any");
        BrokerConf broker = Tools.broker();
        String[] args = new String[5 + styles.length];
        String[] servers = {mode, broker.getHost(), "" + broker.getPort(), redis.getHost(), "" + redis.getPort()};
        System.arraycopy(servers, 0, args, 0, 5);
        System.arraycopy(styles, 0, args, 5, styles.length);
        Tools.Child child = new Tools.Child(SMALL_HEAP, Small.class, args);
        child.await(120);
        String said = child.output().replaceAll("(?m)^(?!full|got|handled|goes on|returned|\\w+ put aside|\\w+ failed \\d).*\\R", "").trim();
        return said.isEmpty() ? child.output() : said.replaceAll("\\s*\\R\\s*", ", ");
    }

    private static void assertItComes(String how, int size, String says) throws Exception {
        String topic = large(size);
        assertEquals(says, run("ask", how + "=" + topic));
        try (Consumer consumer = Consumer.connect(conf(20), new BrokerConf[] {Tools.broker()}, Tools.redis(topic), topic)) {
            Message message = consumer.readMsg(20_000);
            assertEquals("who has room for it gets it", size, message == null ? 0 : message.getBytes().length);
        }
    }

    @Test
    public void aMessageThatFindsNoRoomComesAgain() throws Exception {
        assertItComes("message", LARGE, "full, full, full");
    }

    @Test
    public void aMessageThatFindsNoRoomForItsCopyComesAgain() throws Exception {
        assertItComes("message", HALF, "full, full, full");
    }

    @Test
    public void aBatchThatFindsNoRoomComesAgain() throws Exception {
        assertItComes("batch", LARGE, "full, full, full");
    }

    @Test
    public void processGoesOnAndAcknowledgesNothing() throws Exception {
        assertItComes("process", LARGE, "goes on, returned");
    }

    @Test
    public void inEveryStyleItIsPutAsideAtLast() throws Exception {
        Tools.onOneJdkOnly();
        assertEquals("message put aside, loop put aside, batch put aside, views put aside, batch put aside",
            run("aside", "message=" + large(LARGE), "loop=" + large(LARGE), "batch=" + large(LARGE), "views=" + large(LARGE), "batch=" + large(HALF)));
    }
}
