package kafkafast;

import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.junit.rules.ExternalResource;

/** A broker of a test class's own, the strangers beside us there, and our consumers of what they write: the class's rule. */
final class Neighbours extends ExternalResource {
    private final String properties;
    private final String[] settings;
    OwnBroker broker;
    Strangers strangers;

    /** {@code properties} are lines of server.properties, {@code settings} names and values in turn, of all our consumers. */
    Neighbours(String properties, String... settings) {
        this.properties = properties;
        this.settings = settings;
    }

    @Override
    protected void before() throws Exception {
        broker = new OwnBroker(null, properties);
        strangers = new Strangers(broker.address());
    }

    @Override
    protected void after() {
        strangers.close();
        try {
            broker.close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A consumer of ours that begins at the first record, with units of at most {@code step}. */
    Consumer consumer(String topic, int step) {
        KafkaConf conf = new KafkaConf().set("consume-step", String.valueOf(step));
        for (int i = 0; i < settings.length; i += 2) {
            conf.set(settings[i], settings[i + 1]);
        }
        conf.setUseEarliest(true);
        return Consumer.connect(conf, new BrokerConf[] {broker.address()}, RedisConf.embedded(Tools.topic("g")), topic);
    }

    /**
     * What our consumer reads of a topic that has so many records for it: in one thread with large units, copied and viewed in place in turn,
     * and in four with units of seven, which end within batches and transactions. Both must agree.
     */
    List<Row> ours(String topic, int count) throws Exception {
        List<Row> rows = new ArrayList<>();
        try (Consumer consumer = consumer(topic, 10_000)) {
            while (rows.size() < count) {
                int before = rows.size();
                Message m = consumer.readMsg(30_000);
                assertNotNull("only " + before + " of " + count + ": " + consumer.stats(), m);
                rows.add(Row.of(m));
                if (rows.size() < count) {
                    consumer.forEachView(2, 30_000, (meta, value) -> rows.add(Row.of(meta, value)));
                }
            }
            assertNull(consumer.readMsg(300));
        }
        Collection<Row> shared = new ConcurrentLinkedQueue<>();
        try (Consumer consumer = consumer(topic, 7)) {
            Thread workers = new Thread(() -> consumer.process(4, m -> shared.add(Row.of(m))));
            workers.start();
            try {
                Tools.await("all records in small units", 30_000, () -> shared.size() >= count);
                Thread.sleep(300);
            } finally {
                consumer.close();
            }
            workers.join(10_000);
        }
        Row.assertSame("units of any size", sorted(rows), sorted(shared));
        return sorted(rows);
    }

    /** By partition and offset. */
    static List<Row> sorted(Collection<Row> rows) {
        return rows.stream().sorted(Row.ORDER).collect(Collectors.toList());
    }
}
