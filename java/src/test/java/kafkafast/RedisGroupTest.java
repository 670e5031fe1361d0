package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.Test;

/** A group in Redis, as Java and Kafka's own tools see it. */
public class RedisGroupTest {
    private static final String CONSUMER_GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

    /** Offset and lag of the group's one partition, as kafka-consumer-groups prints them: 40/60; empty while it shows none. */
    private static String position(String group, String topic) throws Exception {
        BrokerConf broker = Tools.broker();
        String server = broker.getHost() + ":" + broker.getPort();
        String shown = LogDump.tool(CONSUMER_GROUPS, "--bootstrap-server", server, "--describe", "--group", group);
        Matcher line = Pattern.compile(Pattern.quote(topic) + "\\s+0\\s+(\\d+)\\s+(\\d+)\\s+(\\d+)").matcher(shown);
        return line.find() ? line.group(1) + "/" + line.group(3) : "";
    }

    @Test
    public void kafkasOwnToolShowsTheLagLive() throws Exception {
        String topic = Tools.topic("lag");
        String group = Tools.topic("group");
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("offset-commit-freq", 200);
        try (Producer producer = Producer.connect(Tools.broker());
                Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, Tools.redis(group), topic)) {
            for (int i = 0; i < 100; i++) {
                producer.sendText(topic, "message " + i);
            }
            producer.flush();
            // The 41st is in our hands.
            for (int i = 0; i <= 40; i++) {
                assertNotNull(consumer.readMsg(20_000));
            }
            Tools.await("40 of 100", 60_000, () -> "40/60".equals(quietly(group, topic)));
            for (int i = 41; i < 100; i++) {
                assertNotNull(consumer.readMsg(20_000));
            }
            assertEquals(null, consumer.readMsg(100));
            Tools.await("all of 100", 60_000, () -> "100/0".equals(quietly(group, topic)));
        }
    }

    private static void reset(String group, String topic, String... how) throws Exception {
        String server = Tools.broker().getHost() + ":" + Tools.broker().getPort();
        List<String> args = new ArrayList<>(List.of("--bootstrap-server", server, "--group", group, "--topic", topic));
        args.addAll(List.of(how));
        LogDump.tool(CONSUMER_GROUPS, args.toArray(new String[0]));
    }

    private static void read(Consumer consumer, long from, long to) {
        for (long offset = from; offset < to; offset++) {
            Message message = consumer.readMsg(20_000);
            assertNotNull("no offset " + offset, message);
            assertEquals(offset, message.getOffset());
        }
        assertEquals(null, consumer.readMsg(200));
    }

    @Test
    public void aResetByKafkasOwnToolIsAppliedAndSoIsASeek() throws Exception {
        String topic = Tools.topic("reset");
        String group = Tools.topic("group");
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("offset-commit-freq", 200);
        BrokerConf[] brokers = {Tools.broker()};
        try (Producer producer = Producer.connect(Tools.broker())) {
            for (int i = 0; i < 100; i++) {
                producer.sendText(topic, "message " + i);
            }
        }
        try (Consumer consumer = Consumer.connect(conf, brokers, Tools.redis(group), topic)) {
            read(consumer, 0, 100);
        }
        reset(group, topic, "--reset-offsets", "--to-offset", "10", "--execute");
        try (Consumer consumer = Consumer.connect(conf, brokers, Tools.redis(group), topic)) {
            read(consumer, 10, 100);
            // While it lives the tool has no effect, and a seek has.
            reset(group, topic, "--reset-offsets", "--to-offset", "20", "--execute");
            assertEquals(null, consumer.readMsg(500));
            consumer.seek(topic, 0, 95);
            read(consumer, 95, 100);
            Exception outside = assertThrows(InvalidRecordException.class, () -> consumer.seek(topic, 0, 101));
            assertTrue(outside.getMessage(), outside.getMessage().contains("begins at 0 and ends at 100"));
            assertThrows(UnknownTopicException.class, () -> consumer.seek(topic + "-no", 0, 0));
            assertEquals(0, consumer.stats().getUnitsFenced());
        }
        // Brokers forget offsets by themselves: that says nothing.
        reset(group, topic, "--delete-offsets");
        try (Consumer consumer = Consumer.connect(conf, brokers, Tools.redis(group), topic)) {
            assertEquals(null, consumer.readMsg(500));
            Tools.await("committed again", 20_000, () -> "100/0".equals(quietly(group, topic)));
            consumer.close();
            assertThrows(IllegalStateException.class, () -> consumer.seek(topic, 0, 0));
        }
    }

    private static String quietly(String group, String topic) {
        try {
            return position(group, topic);
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    /** Whoever made it, wherever it lives: its consumers are told, and the next one begins where a new group does. */
    @Test
    public void aGroupThatWasDeletedTellsItsConsumersAndStartsAnew() throws Exception {
        String topic = Tools.topic("deleted");
        String name = Tools.topic("group");
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("heartbeat-ms", 200);
        try (Producer producer = Producer.connect(Tools.broker())) {
            producer.sendText(topic, "first");
            producer.flush();
        }
        assertThrows(IllegalArgumentException.class, () -> Consumer.deleteGroup(null));
        for (RedisConf group : new RedisConf[] {Tools.redis(name).setMirror(false), RedisConf.embedded(name)}) {
            Consumer.deleteGroup(group);
            try (Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, group, topic)) {
                assertEquals("first", consumer.readMsg(20_000).text());
                assertEquals(null, consumer.readMsg(0));
                Consumer.deleteGroup(group);
                GroupException told = assertThrows(GroupException.class, () -> consumer.readMsg(20_000));
                assertTrue(told.getMessage(), told.getMessage().contains("the group was deleted"));
            }
            try (Consumer consumer = Consumer.connect(conf, new BrokerConf[] {Tools.broker()}, group, topic)) {
                assertEquals("first", consumer.readMsg(20_000).text());
            }
        }
        RedisConf nobody = new RedisConf("127.0.0.1", 1, name);
        assertThrows(UnreachableException.class, () -> Consumer.deleteGroup(nobody));
    }

    @Test
    public void membersThatReadDifferentlyAreRefusedWithBothValues() throws Exception {
        String topic = Tools.topic("differ");
        String group = Tools.topic("group");
        BrokerConf[] brokers = {Tools.broker()};
        try (Consumer first = Consumer.connect(new KafkaConf(), brokers, Tools.redis(group), topic)) {
            assertNotNull(first);
            Exception step = assertThrows(ConfigException.class,
                () -> Consumer.connect(new KafkaConf().set("consume-step", 77), brokers, Tools.redis(group), topic));
            assertTrue(step.getMessage(), step.getMessage().contains("consume-step=77") && step.getMessage().contains("consume-step=100000"));
            Exception order = assertThrows(ConfigException.class,
                () -> Consumer.connect(new KafkaConf().set("ordering", "partition"), brokers, Tools.redis(group), topic));
            assertTrue(order.getMessage(), order.getMessage().contains("ordering=partition") && order.getMessage().contains("ordering=none"));
        }
        // Nobody relies on the first one's settings any more.
        Consumer.connect(new KafkaConf().set("consume-step", 77), brokers, Tools.redis(group), topic).close();
    }

    /** A group of Kafka's own, with a live member, would be disturbed by our commits, and ours by its. */
    @Test
    public void aLiveKafkaGroupOfThatNameIsNotDisturbed() throws Exception {
        String topic = Tools.topic("live");
        String group = Tools.topic("group");
        BrokerConf[] brokers = {Tools.broker()};
        try (Producer producer = Producer.connect(Tools.broker());
                AutoCloseable theirs = Strangers.member(group, topic)) {
            producer.sendText(topic, "one");
            producer.flush();
            Exception inUse = assertThrows(KafkaFastException.class,
                () -> Consumer.connect(new KafkaConf(), brokers, Tools.redis(group), topic));
            assertTrue(inUse.getMessage(), inUse.getMessage().contains("A Kafka consumer group named \"" + group + "\" is in use by other clients"));
            Consumer.connect(new KafkaConf(), brokers, Tools.redis(group).setMirror(false), topic).close();
        }
    }
}
