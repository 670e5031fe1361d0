package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.apache.kafka.common.record.TimestampType;
import org.junit.ClassRule;
import org.junit.Test;

/** Transactions of kafka-clients, read by us with {@code isolation.level=read_committed}. */
public class TransactionsTest {
    @ClassRule
    public static final Neighbours HERE = new Neighbours("", "isolation.level", "read_committed");

    private static Row row(int partition, String value) {
        return new Row(partition, -1, 9, null, Tools.utf8(value), Collections.emptyList());
    }

    /** Two producers with transactions that interleave, and one without, in two partitions; a third of the transactions is aborted. */
    private static String interleaved() throws Exception {
        String topic = HERE.strangers.topic("transactions", 2);
        Random random = new Random(5);
        try (Strangers.Sender a = HERE.strangers.sender("transactional.id", Tools.topic("t"));
                Strangers.Sender b = HERE.strangers.sender("transactional.id", Tools.topic("t"), "compression.type", "lz4");
                Strangers.Sender plain = HERE.strangers.sender()) {
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
        List<Row> all = HERE.strangers.read(topic);
        List<Row> committed = HERE.strangers.read(topic, "read_committed", TimestampType.CREATE_TIME);
        assertTrue(committed.size() + " of " + all.size(), committed.size() > 100 && committed.size() < all.size() - 50);
        Row.assertSame(topic, committed, HERE.ours(topic, committed.size()));
    }

    @Test
    public void anOpenTransactionHoldsBackWhatIsBehindIt() throws Exception {
        String topic = HERE.strangers.topic("open", 1);
        try (Strangers.Sender sender = HERE.strangers.sender("transactional.id", Tools.topic("t"));
                Strangers.Sender plain = HERE.strangers.sender();
                Consumer consumer = HERE.consumer(topic, 1000)) {
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
