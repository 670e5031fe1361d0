import java.nio.ByteBuffer;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/**
 * From when a message was due until a consumer in the same process has it: a message that is sent late, because the one before was held
 * up, is late from when it should have gone, so that a client cannot hide its stalls by sending less.
 */
final class Latency {
    private final Options options;
    private final Sender sender;
    private final Reader reader;
    private final LinkedBlockingQueue<Object> windowsRead = new LinkedBlockingQueue<>();

    private Latency(Options options, Sender sender, Reader reader) {
        this.options = options;
        this.sender = sender;
        this.reader = reader;
    }

    static void run(Options options) throws Exception {
        if (options.bytes < Long.BYTES) throw new IllegalArgumentException("latency needs --bytes of at least " + Long.BYTES);
        try (Sender sender = Sender.of(options); Reader reader = Reader.of(options)) {
            reader.fromEnd();
            new Latency(options, sender, reader).windows();
        }
    }

    private void windows() throws Exception {
        // One thread reads all windows: a thread that ends hands its last message back.
        Thread thread = new Thread(this::read, "reader");
        thread.setDaemon(true);
        thread.start();
        for (int w = 0; w < options.windows; w++) {
            Window window = new Window(options, w);
            send();
            Object read = windowsRead.poll(60, TimeUnit.SECONDS);
            if (!(read instanceof long[])) throw new IllegalStateException("not all messages of a window were read within 60 s", (Throwable) read);
            window.end((long[]) read);
            sender.flush();
            sender.check((w + 1L) * options.count);
        }
    }

    /** The latencies of each window, or why there are no more. */
    private void read() {
        try {
            for (int w = 0; w < options.windows; w++) {
                long[] latencies = new long[options.count];
                int[] at = new int[1];
                reader.each(options.count, value -> latencies[at[0]++] = System.nanoTime() - ByteBuffer.wrap(value).getLong());
                windowsRead.add(latencies);
            }
        } catch (Throwable e) {
            windowsRead.add(e);
        }
    }

    private void send() {
        byte[] value = Payloads.make(options.bytes, options.json)[0];
        long start = System.nanoTime();
        for (int i = 0; i < options.count; i++) {
            long due = start + i * 1_000_000_000L / options.rate;
            for (long left; (left = due - System.nanoTime()) > 0;) LockSupport.parkNanos(left);
            // Both clients copy the value before send returns.
            ByteBuffer.wrap(value).putLong(due);
            sender.send(value);
        }
    }
}
