package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.common.record.TimestampType;
import org.junit.AfterClass;
import org.junit.BeforeClass;
import org.junit.Test;

/** Transactions of kafka-clients, read by us with {@code isolation.level=read_committed}. */
public class TransactionsTest {
    private static OwnBroker broker;
    private static Strangers strangers;

    @BeforeClass
    public static void start() throws Exception {
        broker = new OwnBroker(null, "");
        strangers = new Strangers(broker.address());
    }

    @AfterClass
    public static void stop() throws Exception {
        if (broker != null) {
            strangers.close();
            broker.close();
        }
    }

    private static Consumer consumer(String topic, int step) {
        KafkaConf conf = new KafkaConf().set("isolation.level", "read_committed").set("consume-step", String.valueOf(step));
        conf.setUseEarliest(true);
        return Consumer.connect(conf, new BrokerConf[] {broker.address()}, RedisConf.embedded(Tools.topic("g")), topic);
    }

    private static Row row(int partition, String value) {
        return new Row(partition, -1, 9, null, Tools.utf8(value), Collections.emptyList());
    }

    private static List<Row> sorted(Collection<Row> rows) {
        List<Row> sorted = new ArrayList<>(rows);
        sorted.sort(Row.ORDER);
        return sorted;
    }

    /** Two producers with transactions that interleave, and one without, in two partitions; a third of the transactions is aborted. */
    private static String interleaved() throws Exception {
        String topic = strangers.topic("transactions", 2);
        Random random = new Random(5);
        try (Strangers.Sender a = strangers.sender("transactional.id", Tools.topic("t"));
                Strangers.Sender b = strangers.sender("transactional.id", Tools.topic("t"), "compression.type", "lz4");
                Strangers.Sender plain = strangers.sender()) {
            List<Strangers.Sender> open = new ArrayList<>();
            for (int i = 0; i < 300; i++) {
                Strangers.Sender sender = List.of(a, b, plain).get(random.nextInt(3));
                if (sender != plain && !open.contains(sender)) {
                    sender.producer.beginTransaction();
                    open.add(sender);
                }
                for (int n = random.nextInt(4); n >= 0; n--) {
                    sender.send(topic, row(random.nextInt(2), i + "." + n));
                }
                sender.flush();
                if (sender != plain && random.nextInt(4) == 0) {
                    open.remove(sender);
                    if (random.nextInt(3) == 0) {
                        sender.producer.abortTransaction();
                    } else {
                        sender.producer.commitTransaction();
                    }
                }
            }
            for (Strangers.Sender sender : open) {
                sender.producer.abortTransaction();
            }
        }
        return topic;
    }

    @Test
    public void whatIsReadIsWhatWasCommitted() throws Exception {
        String topic = interleaved();
        List<Row> all = strangers.read(topic);
        List<Row> committed = strangers.read(topic, "read_committed", TimestampType.CREATE_TIME);
        assertTrue(committed.size() + " of " + all.size(), committed.size() > 100 && committed.size() < all.size() - 50);

        List<Row> rows = new ArrayList<>();
        try (Consumer consumer = consumer(topic, 10_000)) {
            while (rows.size() < committed.size()) {
                Message m = consumer.readMsg(30_000);
                assertNotNull("only " + rows.size() + " of " + committed.size() + ": " + consumer.stats(), m);
                rows.add(Row.of(m));
            }
            assertNull(consumer.readMsg(300));
        }
        Row.assertSame("large units", committed, sorted(rows));

        // Units that begin and end within transactions.
        Collection<Row> shared = new ConcurrentLinkedQueue<>();
        try (Consumer consumer = consumer(topic, 7)) {
            Thread workers = new Thread(() -> consumer.process(4, m -> shared.add(Row.of(m))));
            workers.start();
            try {
                Tools.await("all committed records", 30_000, () -> shared.size() >= committed.size());
                Thread.sleep(300);
            } finally {
                consumer.close();
            }
            workers.join(10_000);
        }
        Row.assertSame("small units", committed, sorted(shared));
    }

    @Test
    public void anOpenTransactionHoldsBackWhatIsBehindIt() throws Exception {
        String topic = strangers.topic("open", 1);
        try (Strangers.Sender sender = strangers.sender("transactional.id", Tools.topic("t"));
                Strangers.Sender plain = strangers.sender();
                Consumer consumer = consumer(topic, 1000)) {
            plain.send(topic, row(0, "before"));
            plain.flush();
            assertEquals("before", text(consumer.readMsg(30_000)));
            sender.producer.beginTransaction();
            sender.send(topic, row(0, "inside"));
            sender.flush();
            plain.send(topic, row(0, "behind"));
            plain.flush();
            assertNull("it may still be aborted", consumer.readMsg(1_000));
            sender.producer.commitTransaction();
            assertEquals("inside", text(consumer.readMsg(30_000)));
            assertEquals("behind", text(consumer.readMsg(30_000)));
            sender.producer.beginTransaction();
            sender.send(topic, row(0, "never"));
            sender.flush();
            sender.producer.abortTransaction();
            plain.send(topic, row(0, "last"));
            plain.flush();
            assertEquals("last", text(consumer.readMsg(30_000)));
        }
    }

    private static String text(Message m) {
        assertNotNull("nothing came", m);
        return new String(m.getBytes(), java.nio.charset.StandardCharsets.UTF_8);
    }
}
