import java.util.List;
import kafkafast.BrokerConf;
import kafkafast.Consumer;
import kafkafast.KafkaConf;
import kafkafast.Message;
import kafkafast.RedisConf;

/** kafka-fast, with an embedded group. A window is a group of its own: connecting to it counts. */
final class FastReader implements Reader {
    private static final long PATIENCE = 30_000;
    private static final int BATCH = 10_000;

    private final Options options;
    private Consumer consumer;

    FastReader(Options options) {
        this.options = options;
    }

    @Override
    public void fromBeginning(int window) {
        connect("bench-" + window, true);
    }

    @Override
    public void fromEnd() {
        connect("bench", false);
    }

    private void connect(String group, boolean earliest) {
        close();
        KafkaConf conf = new KafkaConf().set("use-earliest", earliest);
        BrokerConf[] brokers = {new BrokerConf("127.0.0.1", options.port)};
        consumer = Consumer.connect(conf, brokers, RedisConf.embedded(group), options.topic);
    }

    @Override
    public long read(int count) {
        switch (options.way) {
            case "view": return view(count);
            case "readBatch": return batches(count);
            default: return messages(count);
        }
    }

    private long messages(int count) {
        long sum = 0;
        for (int i = 0; i < count; i++) {
            Message message = consumer.readMsg(PATIENCE);
            if (message == null) throw missing(i, count);
            sum += message.getBytes().length;
        }
        return sum;
    }

    private long batches(int count) {
        long sum = 0;
        int read = 0;
        while (read < count) {
            List<Message> batch = consumer.readBatch(Math.min(BATCH, count - read), PATIENCE);
            if (batch.isEmpty()) throw missing(read, count);
            for (Message message : batch) sum += message.getBytes().length;
            read += batch.size();
        }
        return sum;
    }

    private long view(int count) {
        long[] sum = new long[1];
        int read = 0;
        while (read < count) {
            int shown = consumer.forEachView(count - read, PATIENCE, (meta, value) -> sum[0] += value.remaining());
            if (shown == 0) throw missing(read, count);
            read += shown;
        }
        return sum[0];
    }

    @Override
    public void each(int count, java.util.function.Consumer<byte[]> taker) {
        for (int i = 0; i < count; i++) {
            Message message = consumer.readMsg(PATIENCE);
            if (message == null) throw missing(i, count);
            taker.accept(message.getBytes());
        }
    }

    private static IllegalStateException missing(int read, int count) {
        return new IllegalStateException("only " + read + " of " + count + " messages, and no more within " + PATIENCE + " ms");
    }

    @Override
    public void close() {
        if (consumer != null) consumer.close();
        consumer = null;
    }
}
