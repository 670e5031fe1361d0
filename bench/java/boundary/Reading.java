package kafkafast;

import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * {@code readMsg} and {@code forEachView}, in bursts of records that the consumer has fetched: before each it has time to, from a real
 * broker. The CRC of the batches, and their walk, are read with them.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.SingleShotTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@OperationsPerInvocation(Reading.BURST)
// A burst is not to be the first to touch a page of the heap.
@Fork(value = 3, jvmArgsAppend = {"-Xms512m", "-Xmx512m", "-XX:+UseG1GC", "-XX:+AlwaysPreTouch"})
@Warmup(iterations = 40)
@Measurement(iterations = 40)
public class Reading {
    /** At 1 KB a third of the 16 MB that are fetched ahead at most. */
    static final int BURST = 5_000;
    private static final long PATIENCE = 30_000;

    @Param({"100", "1024"})
    public int bytes;

    private Consumer consumer;
    private long sum;

    @Setup
    public void connect() {
        BrokerConf[] brokers = {new BrokerConf("127.0.0.1", Integer.getInteger("boundary.broker"))};
        // Large units, whose size does not follow the pauses between bursts.
        KafkaConf conf = new KafkaConf().set("use-earliest", true).set("unit-target-ms", 3_600_000).set("unit-bytes", 16 << 20);
        consumer = Consumer.connect(conf, brokers, RedisConf.embedded(UUID.randomUUID().toString()), "boundary-" + bytes);
    }

    /** Until all is there that one burst reads, and nothing more comes. */
    @Setup(Level.Invocation)
    public void fetchAhead() throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(PATIENCE);
        long before = -1;
        for (long now; (now = consumer.stats().getPrefetchBytes()) != before || now < (long) BURST * bytes; before = now) {
            if (System.nanoTime() > deadline) throw new IllegalStateException("not fetched: " + consumer.stats());
            // Nothing is fetched for nobody, and units begin small.
            if (now == before) messages();
            Thread.sleep(20);
        }
    }

    private void messages() {
        for (int i = 0; i < BURST; i++) sum += consumer.readMsg(PATIENCE).getBytes().length;
    }

    @Benchmark
    public long readMsg() {
        messages();
        return sum;
    }

    @Benchmark
    public long forEachView() {
        int read = 0;
        while (read < BURST) read += consumer.forEachView(BURST - read, PATIENCE, (meta, value) -> sum += value.remaining());
        return sum;
    }

    @TearDown
    public void close() {
        consumer.close();
    }
}
