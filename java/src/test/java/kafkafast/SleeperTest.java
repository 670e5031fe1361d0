package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.LongBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.BitSet;
import java.util.concurrent.TimeUnit;
import org.junit.Test;

/** A process that is stopped beyond its lease and woken: what it holds is others' by then, and it must not hand it out. */
public class SleeperTest {
    private static final int RECORDS = 400_000;
    private static final long WORK_NANOS = 5_000;
    private static final long LEASE_MS = 2_000;

    private static KafkaConf conf() {
        return new KafkaConf().set("use-earliest", true).set("lease-ms", LEASE_MS).set("heartbeat-ms", 500).set("consume-step", 20_000);
    }

    private static LongBuffer file(Path path) throws Exception {
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            return channel.map(FileChannel.MapMode.READ_WRITE, 0, (RECORDS + 1) * 16L).asLongBuffer();
        }
    }

    /** Reads, and notes time and offset of each record that it is handed, in shared memory. */
    static final class Sleeper {
        public static void main(String[] args) throws Exception {
            LongBuffer notes = file(Path.of(args[5]));
            BrokerConf[] brokers = {new BrokerConf(args[0], Integer.parseInt(args[1]))};
            try (Consumer consumer = Consumer.connect(conf(), brokers, new RedisConf(args[2], Integer.parseInt(args[3]), args[4]), args[4])) {
                for (int i = 1; i <= RECORDS; i++) {
                    Message message = consumer.readMsg(20_000);
                    if (message == null) break;
                    long now = System.nanoTime();
                    notes.put(2 * i, now);
                    notes.put(2 * i + 1, message.getOffset());
                    notes.put(0, i);
                    while (System.nanoTime() - now < WORK_NANOS) Thread.onSpinWait();
                }
            }
        }
    }

    @Test
    public void handsOutNothingThatIsLeasedElsewhere() throws Exception {
        String name = Tools.topic("sleeper");
        RedisConf redis = Tools.redis(name);
        BrokerConf broker = Tools.broker();
        try (Producer producer = Producer.connect(broker)) {
            byte[] value = new byte[10];
            for (int i = 0; i < RECORDS; i++) producer.sendMsg(name, value);
            producer.flush();
        }
        Path path = Files.createTempFile("sleeper", null);
        Tools.Child sleeper = new Tools.Child(java.util.Collections.emptyList(), Sleeper.class, broker.getHost(), "" + broker.getPort(), redis.getHost(),
            "" + redis.getPort(), name, path.toString());
        BitSet others = new BitSet(RECORDS);
        try {
            LongBuffer notes = file(path);
            Tools.await("it to read", 30_000, () -> notes.get(0) > 1_000);
            signal(sleeper, "STOP");
            Tools.await("all its threads to stop", 10_000, () -> stopped(sleeper));
            int handed = (int) notes.get(0);
            BitSet whileAsleep;
            try (Consumer other = Consumer.connect(conf(), new BrokerConf[] {broker}, redis, name)) {
                // All there is but what the sleeper handled and reported comes here, once its lease is over.
                long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(2 * LEASE_MS + 1_000);
                while (System.nanoTime() < until) {
                    Message message = other.readMsg(200);
                    if (message != null) others.set((int) message.getOffset());
                }
                whileAsleep = (BitSet) others.clone();
            }
            starveNative(sleeper);
            signal(sleeper, "CONT");
            Thread.sleep(1_500);
            int stale = 0;
            // The one it had taken when it was stopped is no fault of its.
            for (int i = handed + 2; i <= notes.get(0); i++) {
                if (whileAsleep.get((int) notes.get(2 * i + 1))) stale++;
            }
            System.out.println("asleep after " + handed + " records, others got " + whileAsleep.cardinality() + "; woken it handed out " + stale
                + " of those");
            assertTrue("others had work meanwhile", whileAsleep.cardinality() > 1_000);
            assertEquals("leased elsewhere and handed out after waking", 0, stale);
        } finally {
            sleeper.process.destroyForcibly();
            Files.deleteIfExists(path);
        }
    }

    /** Native's threads will hardly run any more, so that nobody revokes: the reading thread has to see by itself how late it is. */
    private static void starveNative(Tools.Child child) throws Exception {
        String pid = "" + child.process.pid();
        run("taskset", "-a", "-c", "-p", "0", pid);
        for (File thread : new File("/proc/" + pid + "/task").listFiles()) {
            if (Files.readString(thread.toPath().resolve("comm")).startsWith("kafkafast-")) run("chrt", "-i", "-p", "0", thread.getName());
        }
    }

    /** The signal reaches one thread, and the others when that one has run: on a busy machine they work on for a while. */
    private static boolean stopped(Tools.Child child) {
        File[] threads = new File("/proc/" + child.process.pid() + "/task").listFiles();
        for (File thread : threads) {
            try {
                String stat = Files.readString(thread.toPath().resolve("stat"));
                if (stat.charAt(stat.lastIndexOf(')') + 2) != 'T') return false;
            } catch (IOException e) {
                return false; // It has ended meanwhile: look again.
            }
        }
        return true;
    }

    private static void signal(Tools.Child child, String signal) throws Exception {
        run("kill", "-" + signal, "" + child.process.pid());
    }

    private static void run(String... command) throws Exception {
        Process process = new ProcessBuilder(command).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        assertEquals(String.join(" ", command), 0, process.waitFor());
    }
}
