package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.Assume;

/** What several test classes need. */
final class Tools {
    private Tools() {}

    /** The real broker of this run. Tests that need one are skipped without, unless KAFKA_FAST_REQUIRE_BROKER is set. */
    static BrokerConf broker() {
        String address = System.getenv("KAFKA_FAST_BROKER");
        if (address == null && System.getenv("KAFKA_FAST_REQUIRE_BROKER") != null) {
            fail("KAFKA_FAST_BROKER=host:port is missing");
        }
        Assume.assumeNotNull((Object) address);
        int colon = address.lastIndexOf(':');
        return new BrokerConf(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
    }

    /**
     * A group in the real Redis of this run, whose address is KAFKA_FAST_REDIS. Without that this JVM starts one, once, which ends with it;
     * tests that need one are skipped where redis-server is not installed, unless KAFKA_FAST_REQUIRE_BROKER is set. Nobody flushes it:
     * groups need names of their own.
     */
    static RedisConf redis(String group) throws Exception {
        String address = System.getenv("KAFKA_FAST_REDIS");
        if (address == null) {
            address = OwnRedis.shared();
        }
        if (address == null && System.getenv("KAFKA_FAST_REQUIRE_BROKER") != null) {
            fail("KAFKA_FAST_REDIS=host:port is missing, and redis-server is not installed");
        }
        Assume.assumeNotNull((Object) address);
        int colon = address.lastIndexOf(':');
        return new RedisConf(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)), group);
    }

    /** Ends a test that takes long and would find the same on every JDK, where the tests run again on a further one. */
    static void onOneJdkOnly() {
        Assume.assumeTrue("it ran on another JDK", System.getProperty("kafkafast.test.again") == null);
    }

    /** A topic of one's own; the broker creates it at its first use. */
    static String topic(String what) {
        return what + "-" + UUID.randomUUID();
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static Consumer earliest(String group, String... topics) {
        KafkaConf conf = new KafkaConf();
        conf.setUseEarliest(true);
        return Consumer.connect(conf, new BrokerConf[] {broker()}, RedisConf.embedded(group), topics);
    }

    /** Threads of this library that live now. */
    static List<String> ourThreads() {
        List<String> names = new ArrayList<>();
        for (Thread t : Thread.getAllStackTraces().keySet()) {
            if (t.getName().startsWith("kafkafast")) {
                names.add(t.getName());
            }
        }
        // Native ones, which Java does not list.
        File[] tasks = new File("/proc/self/task").listFiles();
        for (File task : tasks == null ? new File[0] : tasks) {
            try {
                String name = new String(Files.readAllBytes(new File(task, "comm").toPath()), StandardCharsets.UTF_8).trim();
                if (name.startsWith("kafkafast")) {
                    names.add("native " + name);
                }
            } catch (IOException e) {
                // It ended while we looked.
            }
        }
        return names;
    }

    static void assertNoThreadsLeft(long withinMillis) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(withinMillis);
        while (!ourThreads().isEmpty() && System.nanoTime() < end) {
            Thread.sleep(20);
        }
        assertTrue("threads left: " + ourThreads(), ourThreads().isEmpty());
    }

    static void await(String what, long millis, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
        while (!condition.getAsBoolean()) {
            assertTrue("in vain: " + what, System.nanoTime() < end);
            Thread.sleep(5);
        }
    }

    /** A JVM that runs one of our classes. */
    static final class Child {
        final Process process;
        private final ByteArrayOutputStream out = new ByteArrayOutputStream();
        private final Thread reader;

        Child(List<String> jvm, Class<?> main, String... args) throws IOException {
            this(command(jvm, main.getName(), System.getProperty("java.class.path"), args), null);
        }

        Child(List<String> command, Path directory) throws IOException {
            ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
            if (directory != null) {
                builder.directory(directory.toFile());
            }
            process = builder.start();
            InputStream in = process.getInputStream();
            reader = new Thread(() -> {
                byte[] buffer = new byte[4096];
                try {
                    for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
                        synchronized (out) {
                            out.write(buffer, 0, n);
                        }
                    }
                } catch (IOException e) {
                    // Killed: what came is enough.
                }
            });
            reader.setDaemon(true);
            reader.start();
        }

        static List<String> command(List<String> jvm, String main, String classPath, String... args) {
            List<String> command = new ArrayList<>();
            command.add(System.getProperty("java.home") + "/bin/java");
            if (Runtime.version().feature() >= 24) {
                command.add("--enable-native-access=ALL-UNNAMED");
            }
            for (String property : new String[] {"kafkafast.native.path", "java.library.path"}) {
                if (System.getProperty(property) != null) {
                    command.add("-D" + property + "=" + System.getProperty(property));
                }
            }
            command.addAll(jvm);
            command.addAll(Arrays.asList("-cp", classPath, main));
            command.addAll(Arrays.asList(args));
            return command;
        }

        String output() {
            synchronized (out) {
                return new String(out.toByteArray(), StandardCharsets.UTF_8);
            }
        }

        /** SIGTERM. Process.destroy would also close the stream we read. */
        void terminate() {
            process.toHandle().destroy();
        }

        void assertExit(int code, long seconds) throws InterruptedException {
            int got = await(seconds);
            assertEquals(output(), code, got);
        }

        /** Waits for its end and returns the exit code. */
        int await(long seconds) throws InterruptedException {
            if (!process.waitFor(seconds, TimeUnit.SECONDS)) {
                process.destroyForcibly();
                fail("the child still runs after " + seconds + " s: " + output());
            }
            reader.join(5000);
            return process.exitValue();
        }
    }
}
