package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.junit.Test;

/** The mistakes people make first, and what they are told. */
public class MistakesTest {
    private static KafkaConf quick(long millis) {
        KafkaConf conf = new KafkaConf();
        conf.setMetadataTimeout(millis);
        return conf;
    }

    private static void contains(Throwable e, String... parts) {
        for (String part : parts) {
            assertTrue(e + " should say: " + part, String.valueOf(e.getMessage()).contains(part));
        }
    }

    @Test
    public void noBrokers() {
        assertEquals("Producer.connect needs at least one BrokerConf, e.g. new BrokerConf(\"localhost\", 9092)",
            assertThrows(ConfigException.class, () -> Producer.connect()).getMessage());
        contains(assertThrows(ConfigException.class, () -> Consumer.connect(new KafkaConf(), null, RedisConf.embedded("g"), "t")),
            "Consumer.connect needs at least one BrokerConf");
    }

    @Test
    public void wrongHost() {
        contains(assertThrows(UnreachableException.class, () -> Producer.connect(quick(3000), new BrokerConf("kafkaa.invalid", 9092))),
            "Cannot resolve broker \"kafkaa.invalid\"", "from a container use the host's name, not localhost");
    }

    @Test
    public void closedPort() throws IOException {
        int port;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            port = socket.getLocalPort();
        }
        contains(assertThrows(UnreachableException.class, () -> Producer.connect(quick(1000), new BrokerConf("127.0.0.1", port))),
            "No broker answered within 1 s", "127.0.0.1:" + port + " refused the connection", "Is Kafka running there?");
    }

    /** A server that says the same to everybody; null: nothing at all. */
    private static ServerSocket server(String answer) throws IOException {
        ServerSocket server = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        Thread thread = new Thread(() -> {
            while (!server.isClosed()) {
                try {
                    Socket socket = server.accept();
                    if (answer != null) {
                        // Read something first, as those servers do.
                        socket.getInputStream().read(new byte[1024]);
                        socket.getOutputStream().write(Tools.utf8(answer));
                        socket.close();
                    }
                } catch (IOException e) {
                    // Closed by the test, or by the client.
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
        return server;
    }

    @Test
    public void otherServers() throws IOException {
        try (ServerSocket http = server("HTTP/1.1 400 Bad Request\r\n\r\n"); ServerSocket redis = server("-ERR unknown command\r\n")) {
            contains(assertThrows(KafkaFastException.class, () -> Producer.connect(quick(2000), new BrokerConf("127.0.0.1", http.getLocalPort()))),
                "127.0.0.1:" + http.getLocalPort(), "answered HTTP, not Kafka");
            contains(assertThrows(KafkaFastException.class, () -> Producer.connect(quick(2000), new BrokerConf("127.0.0.1", redis.getLocalPort()))),
                "127.0.0.1:" + redis.getLocalPort() + " is Redis, not Kafka");
        }
    }

    @Test
    public void tlsWhereTheBrokerSpeaksNone() {
        BrokerConf broker = Tools.broker();
        contains(assertThrows(KafkaFastException.class, () -> Producer.connect(quick(5000).set("security.protocol", "SSL"), broker)),
            broker.getHost() + ":" + broker.getPort() + " does not speak TLS");
    }

    @Test
    public void silentSocketEndsInTimeAndCanBeInterrupted() throws Exception {
        try (ServerSocket silent = server(null)) {
            BrokerConf broker = new BrokerConf("127.0.0.1", silent.getLocalPort());
            long start = System.nanoTime();
            contains(assertThrows(KafkaFastException.class, () -> Producer.connect(quick(1000), broker)), "accepted the connection and said nothing");
            assertTrue("in time", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(8));

            Thread me = Thread.currentThread();
            Thread interrupter = new Thread(() -> {
                try {
                    Thread.sleep(200);
                } catch (InterruptedException e) {
                    return;
                }
                me.interrupt();
            });
            interrupter.start();
            start = System.nanoTime();
            assertThrows(InterruptException.class, () -> Producer.connect(quick(20_000), broker));
            assertTrue("the flag is set again", Thread.interrupted());
            assertTrue("at once", System.nanoTime() - start < TimeUnit.SECONDS.toNanos(2));
            interrupter.join();
        }
        Tools.assertNoThreadsLeft(3000);
    }

    @Test
    public void redisThatIsNot() throws Exception {
        BrokerConf[] brokers = {Tools.broker()};
        int closed;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            closed = socket.getLocalPort();
        }
        contains(assertThrows(UnreachableException.class,
            () -> Consumer.connect(new KafkaConf(), brokers, new RedisConf("127.0.0.1", closed, "g"), Tools.topic("t"))),
            "127.0.0.1:" + closed + " refused the connection", "Start Redis, or use RedisConf.embedded(\"g");
        contains(assertThrows(UnreachableException.class,
            () -> Consumer.connect(new KafkaConf(), brokers, new RedisConf(brokers[0].getHost(), brokers[0].getPort(), "g"), Tools.topic("t"))),
            brokers[0] + " closed the connection", "it is not Redis (is it Kafka?)");
        contains(assertThrows(ConfigException.class,
            () -> Consumer.connect(new KafkaConf(), brokers, Tools.redis("g").setUser("app").setPassword("secret"), Tools.topic("t"))),
            "user \"app\"", "WRONGPASS");
    }

    @Test
    public void illegalTopic() {
        try (Producer producer = Producer.connect(Tools.broker())) {
            contains(assertThrows(InvalidTopicException.class, () -> producer.sendMsg("a b", new byte[1])),
                "Topic \"a b\" has an illegal character at 1", "letters, digits, . _ -");
            assertThrows(IllegalArgumentException.class, () -> producer.sendMsg(null, new byte[1]));
        }
    }

    @Test
    public void settingsWithoutMeaningAreOneWarningEach() throws Exception {
        List<String> lines = new CopyOnWriteArrayList<>();
        Logger logger = Logger.getLogger("kafkafast.net");
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
        logger.addHandler(handler);
        try (Producer producer = Producer.connect(new KafkaConf().set("key.serializer", "x"), Tools.broker())) {
            Tools.await("the line", 5000, () -> !lines.isEmpty());
            assertEquals("[WARNING The setting key.serializer means nothing to kafka-fast and is ignored]", lines.toString());
        } finally {
            logger.removeHandler(handler);
        }
    }

    @Test
    public void badMessages() {
        KafkaConf conf = new KafkaConf();
        conf.setBatchByteLimit(1_000_000);
        try (Producer producer = Producer.connect(conf, Tools.broker())) {
            String topic = Tools.topic("bad");
            assertEquals("sendMsg needs bytes. For a tombstone use send(topic, key, null)",
                assertThrows(IllegalArgumentException.class, () -> producer.sendMsg(topic, null)).getMessage());
            assertThrows(IllegalArgumentException.class, () -> producer.sendText(topic, null));
            assertThrows(IllegalArgumentException.class, () -> producer.send(null));
            assertEquals("Message of 1000000 bytes reaches batch-byte-limit 1000000 (topic " + topic + ")",
                assertThrows(RecordTooLargeException.class, () -> producer.sendMsg(topic, new byte[1_000_000])).getMessage());
            contains(assertThrows(InvalidRecordException.class, () -> producer.send(new ProducerRecord<>(topic, 99, null, new byte[1]))),
                "has no partition 99");
        }
    }

    @Test
    public void useAfterClose() {
        Producer producer = Producer.connect(Tools.broker());
        String topic = Tools.topic("closed");
        producer.sendMsg(topic, new byte[1]);
        producer.close();
        producer.close();
        String pattern = "This Producer was closed at \\d\\d:\\d\\d:\\d\\d by thread " + Thread.currentThread().getName();
        for (Runnable use : new Runnable[] {
            () -> producer.sendMsg(topic, new byte[1]), () -> producer.sendMsg("never-seen", new byte[1]), () -> producer.sendText(topic, "x"),
            () -> producer.send(topic, null, null), producer::flush}) {
            String text = assertThrows(IllegalStateException.class, use::run).getMessage();
            assertTrue(text, text.matches(pattern));
        }
        assertEquals(1, producer.stats().getDeliveredRecords());

        Consumer consumer = Tools.earliest(Tools.topic("group"), topic);
        consumer.close();
        consumer.close();
        assertTrue(assertThrows(IllegalStateException.class, () -> consumer.addTopics("x")).getMessage()
            .matches(pattern.replace("Producer", "Consumer")));
        assertThrows(IllegalStateException.class, () -> consumer.removeTopics("x"));
        assertThrows(IllegalStateException.class, () -> consumer.process(1, m -> { }));
        assertEquals("reading a closed consumer ends quietly", null, consumer.readMsg());
        assertEquals(false, consumer.iterator().hasNext());
        assertTrue(consumer.readBatch(5, 1000).isEmpty());
        consumer.stats();
    }
}
