import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import kafkafast.BrokerConf;
import kafkafast.Consumer;
import kafkafast.KafkaConf;
import kafkafast.Message;
import kafkafast.Producer;
import kafkafast.RedisConf;

/**
 * The main job, end to end: one thread sends messages of 1 KB while two threads of a consumer group read them, and every
 * byte is checked. Arguments: the broker's port, and how many messages. Ends with 0 only when each message came exactly once.
 */
public final class Demo {
    private static final int BYTES = 1024;
    private static final int READERS = 2;
    /** The reading threads give up after so long without any message. */
    private static final long PATIENCE_MS = 30_000;
    /** When all have been read they look so long whether one comes twice. */
    private static final long SECOND_LOOK_MS = 1_000;

    private final int count;
    private final String topic = "demo-" + ProcessHandle.current().pid();
    private final AtomicLong sent = new AtomicLong();
    private final AtomicLong read = new AtomicLong();
    /** How many different ones were read. */
    private final AtomicLong distinct = new AtomicLong();
    private final AtomicLong duplicated = new AtomicLong();
    private final AtomicLong broken = new AtomicLong();
    /** One bit a message. */
    private final AtomicLongArray seen;

    private Demo(int count) {
        this.count = count;
        this.seen = new AtomicLongArray(count / 64 + 1);
    }

    public static void main(String[] args) throws Exception {
        Demo demo = new Demo(Integer.parseInt(args[1]));
        System.exit(demo.run(new BrokerConf("localhost", Integer.parseInt(args[0]))) ? 0 : 1);
    }

    private boolean run(BrokerConf broker) throws Exception {
        long began = System.nanoTime();
        Thread progress = daemon("progress", this::progress);
        try (Producer producer = Producer.connect(new KafkaConf(), broker);
                Consumer consumer = Consumer.connect(new KafkaConf(), new BrokerConf[]{broker}, RedisConf.embedded("demo"), topic)) {
            AtomicLong lastRead = new AtomicLong();
            Thread[] readers = new Thread[READERS];
            for (int i = 0; i < READERS; i++) readers[i] = daemon("reader-" + i, () -> read(consumer, lastRead));

            long sending = System.nanoTime();
            byte[] message = new byte[BYTES];
            for (int i = 0; i < count; i++) {
                fill(message, i);
                producer.sendMsg(topic, message);
                sent.lazySet(i + 1);
            }
            producer.flush();
            long flushed = System.nanoTime();
            for (Thread reader : readers) reader.join();
            progress.interrupt();
            progress.join();

            System.out.printf("sent %,.0f messages/s, read %,.0f messages/s (%.1f s in all)%n", count / seconds(sending, flushed),
                    read.get() / seconds(sending, Math.max(lastRead.get(), sending + 1)), seconds(began, System.nanoTime()));
        }
        long lost = count - distinct.get();
        if (broken.get() > 0) System.out.printf("%d messages did not have the content that was sent%n", broken.get());
        System.out.printf("%d sent, %d read, %d lost, %d duplicated%n", sent.get(), read.get(), lost, duplicated.get());
        return lost == 0 && duplicated.get() == 0 && broken.get() == 0;
    }

    private void read(Consumer consumer, AtomicLong lastRead) {
        byte[] expected = new byte[BYTES];
        long quietSince = System.nanoTime();
        while (seconds(quietSince, System.nanoTime()) * 1000 < (distinct.get() < count ? PATIENCE_MS : SECOND_LOOK_MS)) {
            Message message = consumer.readMsg(100);
            if (message == null) continue;
            quietSince = System.nanoTime();
            lastRead.accumulateAndGet(quietSince, Math::max);
            check(message.getBytes(), expected);
        }
    }

    private void check(byte[] bytes, byte[] expected) {
        int number = bytes != null && bytes.length == BYTES ? ByteBuffer.wrap(bytes).getInt() : -1;
        if (number < 0 || number >= count) {
            broken.incrementAndGet();
        } else {
            fill(expected, number);
            if (!Arrays.equals(bytes, expected)) broken.incrementAndGet();
            long bit = 1L << (number & 63);
            boolean again = (seen.getAndUpdate(number >> 6, old -> old | bit) & bit) != 0;
            (again ? duplicated : distinct).incrementAndGet();
        }
        read.incrementAndGet();
    }

    /** The number of the message, and a pattern that depends on it to the last byte. */
    private static void fill(byte[] message, int number) {
        ByteBuffer buffer = ByteBuffer.wrap(message);
        buffer.putInt(number);
        buffer.putInt(~number);
        for (int mix = number * 0x9E3779B9; buffer.remaining() >= 8; mix += 0x61C88647) buffer.putLong(mix * 0x5851F42D4C957F2DL);
    }

    private void progress() {
        long lastSent = 0;
        long lastRead = 0;
        try {
            while (true) {
                Thread.sleep(1000);
                long s = sent.get();
                long r = read.get();
                System.out.printf("%,10d sent (%,8d/s)  %,10d read (%,8d/s)%n", s, s - lastSent, r, r - lastRead);
                lastSent = s;
                lastRead = r;
            }
        } catch (InterruptedException done) {
            // The work is over.
        }
    }

    private static Thread daemon(String name, Runnable work) {
        Thread thread = new Thread(work, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private static double seconds(long from, long to) {
        return (to - from) / 1e9;
    }
}
