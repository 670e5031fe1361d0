package kafkafast;

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

/** {@code sendMsg}, in bursts that the producer's buffer has room for: nobody waits. What is sent is thrown away behind the socket. */
@State(Scope.Thread)
@BenchmarkMode(Mode.SingleShotTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@OperationsPerInvocation(Sending.BURST)
@Fork(value = 3, jvmArgsAppend = {"-Xms512m", "-Xmx512m", "-XX:+UseG1GC"})
@Warmup(iterations = 40)
@Measurement(iterations = 40)
public class Sending {
    static final int BURST = 20_000;

    @Param({"100", "1024"})
    public int bytes;

    private byte[] value;
    private Producer producer;
    private long sent;

    @Setup
    public void connect() {
        value = new byte[bytes];
        producer = Producer.connect("127.0.0.1:" + Integer.getInteger("boundary.discard"));
    }

    @Setup(Level.Invocation)
    public void empty() {
        producer.flush();
    }

    @Benchmark
    public void sendMsg() {
        for (int i = 0; i < BURST; i++) producer.sendMsg("boundary", value);
        sent += BURST;
    }

    @TearDown
    public void close() {
        producer.flush();
        ProducerStats stats = producer.stats();
        producer.close();
        if (stats.getDeliveredRecords() != sent) throw new IllegalStateException("of " + sent + " messages sent: " + stats);
    }
}
