import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import kafkafast.BrokerConf;
import kafkafast.Consumer;
import kafkafast.KafkaConf;
import kafkafast.Message;
import kafkafast.Producer;
import kafkafast.RedisConf;

/**
 * A group over Redis, end to end: two consumer processes share the one partition of a topic that a third process sends to.
 * Every byte is checked. Arguments: the broker's port, the port of Redis, how many messages, and a folder to work in. Ends
 * with 0 only when each message came exactly once, to one of the two.
 *
 * <p>This one program plays all parts. As {@link #produce} and {@link #consume} it is what an application looks like; the
 * rest starts these, and adds up what they report.
 */
public final class DemoRedis {
    private static final int BYTES = 1024;
    private static final int CONSUMERS = 2;
    /** It is given up when so long nothing was read. */
    private static final long PATIENCE_MS = 30_000;
    /** When all have been read, so long whether one comes twice. */
    private static final long SECOND_LOOK_MS = 1_000;

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "produce":
                produce(broker(args[1]), args[2], Integer.parseInt(args[3]));
                break;
            case "consume":
                RedisConf group = new RedisConf("localhost", Integer.parseInt(args[4]), "demo");
                consume(broker(args[1]), group, args[2], Integer.parseInt(args[3]), Paths.get(args[5]));
                break;
            default:
                System.exit(demo(args[0], args[1], Integer.parseInt(args[2]), Paths.get(args[3])) ? 0 : 1);
        }
    }

    private static BrokerConf broker(String port) {
        return new BrokerConf("localhost", Integer.parseInt(port));
    }

    // --- the producer ----------------------------------------------------------------------------------------------

    private static void produce(BrokerConf broker, String topic, int count) {
        AtomicInteger sent = new AtomicInteger();
        sayOften("sent", sent);
        try (Producer producer = Producer.connect(broker)) {
            byte[] message = new byte[BYTES];
            for (int i = 0; i < count; i++) {
                fill(message, i);
                producer.sendMsg(topic, message);
                sent.lazySet(i + 1);
            }
        }
        System.out.println("sent " + sent);
    }

    // --- a consumer ------------------------------------------------------------------------------------------------

    /** Reads until its input ends; then writes to a file which messages it has read, a bit each, and says the rest. */
    private static void consume(BrokerConf broker, RedisConf group, String topic, int count, Path file) throws IOException {
        AtomicInteger read = new AtomicInteger();
        BitSet seen = new BitSet(count);
        int broken = 0;
        try (Consumer consumer = Consumer.connect(new KafkaConf(), new BrokerConf[]{broker}, group, topic)) {
            System.out.println("ready");
            sayOften("read", read);
            daemon("until the end", () -> {
                if (System.in.read() < 0) consumer.close();
            });
            // Ends when the consumer is closed.
            byte[] expected = new byte[BYTES];
            for (Message message : consumer) {
                byte[] bytes = message.getBytes();
                int number = number(bytes, count);
                if (number >= 0) {
                    seen.set(number);
                    fill(expected, number);
                    read.incrementAndGet();
                }
                if (number < 0 || !Arrays.equals(bytes, expected)) broken++;
            }
            // It is closing; this waits for the end of that.
            consumer.close();
            System.out.println("units " + consumer.stats().getUnitsDone());
        }
        Files.write(file, seen.toByteArray());
        System.out.println("read " + read);
        System.out.println("broken " + broken);
    }

    /** The number of a message; -1 when it is none that was sent. */
    private static int number(byte[] bytes, int count) {
        int number = bytes != null && bytes.length == BYTES ? ByteBuffer.wrap(bytes).getInt() : -1;
        return number < count ? number : -1;
    }

    /** The number of the message, and a pattern that depends on it to the last byte. */
    private static void fill(byte[] message, int number) {
        ByteBuffer buffer = ByteBuffer.wrap(message);
        buffer.putInt(number);
        buffer.putInt(~number);
        for (int mix = number * 0x9E3779B9; buffer.remaining() >= 8; mix += 0x61C88647) buffer.putLong(mix * 0x5851F42D4C957F2DL);
    }

    private static void sayOften(String what, AtomicInteger number) {
        daemon("progress", () -> {
            while (true) {
                Thread.sleep(200);
                System.out.println(what + " " + number);
            }
        });
    }

    // --- what starts them and adds up ------------------------------------------------------------------------------

    private static boolean demo(String brokerPort, String redisPort, int count, Path folder) throws Exception {
        String topic = "demo-" + ProcessHandle.current().pid();
        List<Part> consumers = new ArrayList<>();
        for (int i = 1; i <= CONSUMERS; i++) {
            Path file = folder.resolve("consumer-" + i);
            consumers.add(new Part(file, "consume", brokerPort, topic, "" + count, redisPort, file.toString()));
        }
        for (Part consumer : consumers) {
            while (!consumer.ready) alive(consumer, 10);
        }
        long began = System.nanoTime();
        Part producer = new Part(null, "produce", brokerPort, topic, "" + count);
        long lastRead = watch(producer, consumers, count);
        for (Part consumer : consumers) consumer.finish();
        System.out.printf("%,.0f messages/s from the producer's start to the last one read%n", read(consumers) / ((lastRead - began) / 1e9));
        return verdict(producer.sent, consumers, count);
    }

    /** Shows how it goes on, until all is read, or nothing comes any more; returns when the last message came. */
    private static long watch(Part producer, List<Part> consumers, int count) throws InterruptedException {
        long last = System.nanoTime();
        long shown = last;
        long before = 0;
        while (true) {
            for (Part consumer : consumers) alive(consumer, 10);
            long now = System.nanoTime();
            long read = read(consumers);
            if (read > before) last = now;
            before = read;
            if (now - shown > 1_000_000_000L) {
                shown = now;
                System.out.printf("%,10d sent  %,10d read, by process: %s%n", producer.sent, read, shares(consumers));
            }
            boolean sent = !producer.process.isAlive();
            if (sent && producer.process.exitValue() != 0) throw new IllegalStateException("the producer process failed, see above");
            boolean all = sent && read >= count;
            if (now - last > TimeUnit.MILLISECONDS.toNanos(all ? SECOND_LOOK_MS : PATIENCE_MS)) return last;
        }
    }

    private static void alive(Part part, long millis) throws InterruptedException {
        if (part.process.waitFor(millis, TimeUnit.MILLISECONDS)) throw new IllegalStateException("a consumer process has ended, see above");
    }

    private static long read(List<Part> consumers) {
        return consumers.stream().mapToLong(consumer -> consumer.read).sum();
    }

    private static String shares(List<Part> consumers) {
        StringBuilder text = new StringBuilder();
        for (Part consumer : consumers) text.append(text.length() == 0 ? "" : " + ").append(String.format("%,d", consumer.read));
        return text.toString();
    }

    /** Over both together: what is in neither file is lost, what was read more often than it is in one of them is duplicated. */
    private static boolean verdict(long sent, List<Part> consumers, int count) throws IOException {
        BitSet all = new BitSet(count);
        long broken = 0;
        for (Part consumer : consumers) {
            all.or(BitSet.valueOf(Files.readAllBytes(consumer.file)));
            broken += consumer.broken;
            System.out.printf("%s: %,d messages in %,d units%n", consumer.file.getFileName(), consumer.read, consumer.units);
        }
        long lost = count - all.cardinality();
        long duplicated = read(consumers) - all.cardinality();
        if (broken > 0) System.out.printf("%d messages did not have the content that was sent%n", broken);
        System.out.printf("%d sent, %d read, %d lost, %d duplicated%n", sent, read(consumers), lost, duplicated);
        return sent == count && lost == 0 && duplicated == 0 && broken == 0;
    }

    /** A process that runs this program in one of its parts, and what it has said. It does not outlive this one. */
    private static final class Part {
        final Process process;
        final Path file;
        final Thread listener;
        volatile boolean ready;
        volatile long sent;
        volatile long read;
        volatile long units;
        volatile long broken;

        Part(Path file, String... args) throws IOException {
            this.file = file;
            List<String> command = new ArrayList<>();
            command.add(Paths.get(System.getProperty("java.home"), "bin", "java").toString());
            command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
            command.addAll(Arrays.asList("-cp", System.getProperty("java.class.path"), DemoRedis.class.getName()));
            command.addAll(Arrays.asList(args));
            process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            listener = daemon("listener", this::listen);
            // However this process ends.
            Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        }

        private void listen() throws IOException {
            BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream()));
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] words = line.split(" ");
                switch (words[0]) {
                    case "ready": ready = true; break;
                    // One that was on its way may come after a newer one.
                    case "sent": sent = Math.max(sent, Long.parseLong(words[1])); break;
                    case "read": read = Math.max(read, Long.parseLong(words[1])); break;
                    case "units": units = Long.parseLong(words[1]); break;
                    case "broken": broken = Long.parseLong(words[1]); break;
                    default: System.out.println(line);
                }
            }
        }

        /** Ends its input, and waits for its last word. */
        void finish() throws IOException, InterruptedException {
            process.getOutputStream().close();
            if (!process.waitFor(30, TimeUnit.SECONDS) || process.exitValue() != 0) throw new IOException("a consumer process did not end well");
            listener.join();
        }
    }

    private interface Work {
        void run() throws Exception;
    }

    private static Thread daemon(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }
}
