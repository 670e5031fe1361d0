package kafkafast;

import static org.junit.Assert.assertTrue;

import java.util.List;
import org.junit.Test;

/** A thread that connects, reads and closes again and again: what it read with goes with the consumer. */
public class ManyConsumersTest {
    static final class Victim {
        public static void main(String[] args) {
            BrokerConf[] brokers = {new BrokerConf(args[0], Integer.parseInt(args[1]))};
            KafkaConf conf = new KafkaConf().set("use-earliest", true);
            for (int i = 0; i < 100; i++) {
                try (Consumer consumer = Consumer.connect(conf, brokers, RedisConf.embedded("g" + i), args[2])) {
                    if (consumer.readMsg(20_000) == null) throw new AssertionError("no message");
                }
            }
            System.out.println("ALL READ");
        }
    }

    @Test
    public void theirBuffersAreFreed() throws Exception {
        String topic = Tools.topic("many");
        BrokerConf broker = Tools.broker();
        try (Producer producer = Producer.connect(broker)) {
            producer.sendMsg(topic, new byte[900_000]);
        }
        // Room for a few of them at a time.
        Tools.Child child = new Tools.Child(List.of("-XX:MaxDirectMemorySize=8m"), Victim.class, broker.getHost(), "" + broker.getPort(), topic);
        child.await(120);
        assertTrue(child.output(), child.output().contains("ALL READ"));
    }
}
