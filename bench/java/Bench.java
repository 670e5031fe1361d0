import java.util.concurrent.CompletableFuture;
import java.util.concurrent.locks.LockSupport;

/**
 * One client and one case in a process of its own, on a topic that exists: the Java candidates of {@code ./dev bench}. The work is done in
 * windows, since a JVM is "settled" in its last ones only; each prints a line. What the options and the fields of a line mean is written
 * in bench/README.md. Ends with another code than 0 when a message was lost.
 */
public final class Bench {
    public static void main(String[] args) throws Exception {
        Options options = new Options(args);
        switch (options.op) {
            case "consume": consume(options); break;
            case "latency": Latency.run(options); break;
            default: produce(options); break;
        }
    }

    private static void produce(Options options) throws Exception {
        byte[][] payloads = Payloads.make(options.bytes, options.json);
        try (Sender sender = Sender.of(options)) {
            for (int w = 0; w < options.windows; w++) {
                Window window = new Window(options, w);
                if (options.op.equals("paced")) paced(sender, payloads, options.count, options.rate);
                else if (options.threads > 1) byThreads(sender, payloads, options);
                else all(sender, payloads, options.count);
                sender.flush();
                window.end();
                sender.check((w + 1L) * options.count);
            }
        }
    }

    private static void all(Sender sender, byte[][] payloads, int count) {
        for (int i = 0; i < count; i++) sender.send(payloads[i & (Payloads.SIZE - 1)]);
    }

    private static void byThreads(Sender sender, byte[][] payloads, Options options) throws Exception {
        CompletableFuture<?>[] threads = new CompletableFuture<?>[options.threads];
        for (int t = 0; t < threads.length; t++) {
            // The first ones take what does not divide.
            int share = options.count / threads.length + (t < options.count % threads.length ? 1 : 0);
            CompletableFuture<Void> done = new CompletableFuture<>();
            threads[t] = done;
            new Thread(() -> {
                try {
                    all(sender, payloads, share);
                    done.complete(null);
                } catch (Throwable e) {
                    done.completeExceptionally(e);
                }
            }).start();
        }
        CompletableFuture.allOf(threads).get();
    }

    /** So many messages a second, each millisecond those that are due. */
    private static void paced(Sender sender, byte[][] payloads, int count, int rate) {
        long start = System.nanoTime();
        int sent = 0;
        for (long tick = 1; sent < count; tick++) {
            long due = start + tick * 1_000_000;
            for (long left; (left = due - System.nanoTime()) > 0;) LockSupport.parkNanos(left);
            for (long to = Math.min(count, tick * rate / 1000); sent < to; sent++) sender.send(payloads[sent & (Payloads.SIZE - 1)]);
        }
    }

    private static void consume(Options options) throws Exception {
        try (Reader reader = Reader.of(options)) {
            for (int w = 0; w < options.windows; w++) {
                Window window = new Window(options, w);
                reader.fromBeginning(w);
                long bytes = reader.read(options.count);
                window.end();
                if (bytes != (long) options.count * options.bytes) {
                    throw new IllegalStateException("read " + bytes + " bytes: the topic must hold exactly " + options.count + " messages of " + options.bytes);
                }
            }
        }
    }

    private Bench() {}
}
