package kafkafast;

import static org.junit.Assert.assertEquals;

import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.Test;

/** A message for which the heap has no room: it was not handed out, so nothing may count it as handled. */
public class FullHeapTest {
    private static final List<String> SMALL_HEAP = List.of("-Xmx24m", "-XX:MaxDirectMemorySize=512m");
    private static final int LARGE = 40 << 20;

    private static String large() {
        String topic = Tools.topic("large");
        KafkaConf conf = new KafkaConf().set("codec", "gzip").set("batch-byte-limit", LARGE + (1 << 20)).set("buffer.memory", 3 * LARGE);
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            producer.sendMsg(topic, new byte[LARGE]);
        }
        return topic;
    }

    /** Asks again and again, or processes. */
    static final class Small {
        public static void main(String[] args) throws Exception {
            BrokerConf[] brokers = {new BrokerConf(args[1], Integer.parseInt(args[2]))};
            KafkaConf conf = new KafkaConf().set("use-earliest", true);
            try (Consumer consumer = Consumer.connect(conf, brokers, new RedisConf(args[3], Integer.parseInt(args[4]), args[5]), args[5])) {
                if (args[0].equals("process")) {
                    Thread closer = new Thread(() -> {
                        try {
                            TimeUnit.SECONDS.sleep(20);
                        } catch (InterruptedException e) {
                            return;
                        }
                        consumer.close();
                    });
                    closer.setDaemon(true);
                    closer.start();
                    try {
                        consumer.process(1, m -> System.out.println("handled"));
                        System.out.println("returned");
                    } catch (OutOfMemoryError e) {
                        System.out.println("thrown");
                    }
                    return;
                }
                for (int i = 0; i < 3; i++) {
                    try {
                        Object got = args[0].equals("batch") ? consumer.readBatch(10, 20_000) : consumer.readMsg(20_000);
                        System.out.println("got " + got);
                    } catch (OutOfMemoryError e) {
                        System.out.println("full");
                    }
                }
            }
        }
    }

    private static void assertItComes(String how, String says) throws Exception {
        String topic = large();
        RedisConf redis = Tools.redis(topic);
        BrokerConf broker = Tools.broker();
        Tools.Child child = new Tools.Child(SMALL_HEAP, Small.class, how, broker.getHost(), "" + broker.getPort(), redis.getHost(), "" + redis.getPort(), topic);
        child.await(90);
        String said = child.output().replaceAll("(?m)^(?!full|got|handled|returned|thrown).*\\R", "").trim().replaceAll("\\s+", " ");
        assertEquals(child.output(), says, said);
        try (Consumer consumer = Consumer.connect(new KafkaConf().set("use-earliest", true), new BrokerConf[] {broker}, redis, topic)) {
            Message message = consumer.readMsg(20_000);
            assertEquals("who has room for it gets it", LARGE, message == null ? 0 : message.getBytes().length);
        }
    }

    @Test
    public void aMessageThatFindsNoRoomComesAgain() throws Exception {
        assertItComes("message", "full full full");
    }

    @Test
    public void aBatchThatFindsNoRoomComesAgain() throws Exception {
        assertItComes("batch", "full full full");
    }

    @Test
    public void processTellsAndAcknowledgesNothing() throws Exception {
        assertItComes("process", "thrown");
    }
}
