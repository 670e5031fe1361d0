package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.Test;

/** The boundary itself: panics, threads, the loader. Needs no broker. */
public class BoundaryTest {
    @Test
    public void aPanicBecomesAnExceptionWithItsText() {
        NativeLoader.ensure();
        String plain = assertThrows(KafkaFastException.class, () -> NativeService.panicForTest(0)).getMessage();
        assertTrue(plain, plain.contains("a panic with a plain text"));
        String formatted = assertThrows(KafkaFastException.class, () -> NativeService.panicForTest(42)).getMessage();
        assertTrue(formatted, formatted.contains("a panic with a formatted text 42"));
        assertTrue("it says where", formatted.contains("service.rs:"));
    }

    @Test
    public void aPanicPoisonsItsHandleOnly() throws Exception {
        KafkaConf lazy = new KafkaConf();
        String settings = lazy.forConnect("test", new BrokerConf("localhost", 1));
        Service.acquireLease();
        try {
            long handle = NativeProducer.create(settings);
            long other = NativeProducer.create(settings);
            assertThrows(KafkaFastException.class, () -> NativeProducer.panicForTest(handle));
            String text = assertThrows(KafkaFastException.class, () -> NativeProducer.send(handle, 0, new byte[1], 1)).getMessage();
            assertTrue(text, text.startsWith("This Producer stopped working after a defect in kafka-fast"));
            assertEquals("not connected counts as closed", NativeProducer.CLOSED, NativeProducer.send(other, 0, new byte[1], 1));
            NativeProducer.release(handle);
            NativeProducer.release(other);
            long consumer = NativeConsumer.create(settings, RedisConf.embedded("group").forConnect());
            assertThrows(KafkaFastException.class, () -> NativeConsumer.panicForTest(consumer));
            assertThrows(KafkaFastException.class, () -> NativeConsumer.next(consumer, 0, new byte[1], new long[4], 0));
            NativeConsumer.release(consumer);
        } finally {
            Service.releaseLease();
        }
        Tools.assertNoThreadsLeft(2000);
    }

    @Test
    public void threadsComeWithTheFirstClientAndGoAfterTheLast() throws Exception {
        Tools.assertNoThreadsLeft(2000);
        for (int round = 0; round < 3; round++) {
            Service.acquireLease();
            Service.acquireLease();
            try {
                Tools.await("the service thread and the network's", 2000, () -> {
                    List<String> threads = Tools.ourThreads();
                    return threads.contains("kafkafast-service") && threads.stream().filter(n -> n.matches("native kafkafast-\\d+")).count() == 1;
                });
            } finally {
                Service.releaseLease();
                Service.releaseLease();
            }
            Tools.assertNoThreadsLeft(2000);
        }
    }

    @Test
    public void failedConnectsLeaveNothing() throws Exception {
        int port;
        try (ServerSocket socket = new ServerSocket(0)) {
            port = socket.getLocalPort();
        }
        KafkaConf conf = new KafkaConf();
        conf.setMetadataTimeout(300);
        assertThrows(KafkaFastException.class, () -> Producer.connect(conf, new BrokerConf("127.0.0.1", port)));
        assertThrows(KafkaFastException.class,
            () -> Consumer.connect(conf, new BrokerConf[] {new BrokerConf("127.0.0.1", port)}, RedisConf.embedded("g"), "t"));
        assertThrows(ConfigException.class, () -> Producer.connect(new KafkaConf().set("lease-ms", 10), new BrokerConf("127.0.0.1", port)));
        Tools.assertNoThreadsLeft(2000);
    }

    @Test
    public void anEventForWhichThereIsNoMemoryIsReadAgain() throws Exception {
        List<String> seen = new java.util.ArrayList<>();
        CountDownLatch completed = new CountDownLatch(1);
        int[] fails = {3, 2};
        Service.Parker first = () -> {
            seen.add("first");
            if (fails[0]-- > 0) {
                throw new OutOfMemoryError("of a test");
            }
        };
        Service.Parker second = () -> seen.add("second");
        long[] tokens = {Service.register(first), Service.register(second)};
        Service service = new Service();
        service.events.limit(18);
        for (long token : tokens) {
            service.events.put((byte) 1).putLong(token);
        }
        service.events.flip();
        for (int i = 0; i < 3; i++) {
            assertThrows(OutOfMemoryError.class, service::dispatch);
        }
        service.dispatch();
        assertEquals(Arrays.asList("first", "first", "first", "first", "second"), seen);
        for (long token : tokens) {
            Service.forget(token);
        }
        // So is what completes a future.
        Callbacks.submit(Collections.singletonList(() -> {
            if (fails[1]-- > 0) {
                throw new OutOfMemoryError("of a test");
            }
            completed.countDown();
        }));
        assertTrue(completed.await(20, TimeUnit.SECONDS));
        Callbacks.end();
        Tools.assertNoThreadsLeft(2000);
    }

    // --- the loader, each case in a JVM of its own ------------------------------------------------------------------

    /** Says what loading gives. */
    public static final class Load {
        private Load() {}

        public static void main(String[] args) {
            for (int i = 0; i < 2; i++) {
                try {
                    new KafkaConf().set("acks", "all");
                    System.out.println("LOADED");
                } catch (NativeLibraryException e) {
                    System.out.println("REFUSED " + e.getMessage());
                }
            }
        }
    }

    private static String load(String... jvm) throws Exception {
        List<String> command = Tools.Child.command(Arrays.asList(jvm), Load.class.getName(), System.getProperty("java.class.path"));
        command.removeIf(arg -> arg.startsWith("-Dkafkafast.native.path") && !Arrays.asList(jvm).contains(arg));
        Tools.Child child = new Tools.Child(command, null);
        int code = child.await(60);
        assertEquals(child.output(), 0, code);
        return child.output();
    }

    /** The library of this run: a file named by the property, or what the class path has. */
    private static InputStream library() throws IOException {
        String path = System.getProperty("kafkafast.native.path");
        String resource = "/META-INF/native/" + NativeLoader.platform() + "/" + System.mapLibraryName(NativeLoader.NAME);
        InputStream in = path == null ? NativeLoader.class.getResourceAsStream(resource) : Files.newInputStream(Path.of(path));
        org.junit.Assume.assumeNotNull(in);
        return in;
    }

    @Test
    public void aMissingFileIsNamedEachTimeAndNotOnlyTheFirst() throws Exception {
        String out = load("-Dkafkafast.native.path=/no/such/libkafkafast.so");
        assertEquals(out, 2, out.split("REFUSED Cannot load the native library /no/such/libkafkafast.so", -1).length - 1);
        assertTrue(out, out.contains("Use -Dkafkafast.native.path"));
    }

    @Test
    public void aMissingPlatformSaysWhatThereIs() throws Exception {
        String out = load("-Dos.arch=riscv64", "-Djava.library.path=/nowhere");
        assertTrue(out, out.contains("No native library for linux-riscv64"));
        assertTrue(out, out.contains("(has: "));
        assertTrue(out, out.contains("Use -Dkafkafast.native.path"));
    }

    @Test
    public void aDirectoryAndTheLibraryPathAreTried() throws Exception {
        Path dir = Files.createTempDirectory("kafka-fast-load");
        Path copy = dir.resolve(System.mapLibraryName(NativeLoader.NAME));
        try (InputStream in = library()) {
            Files.copy(in, copy);
            assertTrue(load("-Dkafkafast.native.dir=" + dir).contains("LOADED"));
            assertTrue(load("-Djava.library.path=" + dir).contains("LOADED"));
            Files.write(copy, Tools.utf8("this is no library"));
            assertTrue("a broken one is told, not skipped", load("-Djava.library.path=" + dir).contains("REFUSED Cannot load the native library"));
        } finally {
            Files.deleteIfExists(copy);
            Files.deleteIfExists(dir);
        }
    }

    @Test
    public void theJarsLibraryIsLoadedAndItsCopyDeleted() throws Exception {
        String jar = System.getProperty("kafkafast.test.jar");
        org.junit.Assume.assumeTrue(jar != null && Files.isRegularFile(Path.of(jar)));
        Path dir = Files.createTempDirectory("kafka-fast-load");
        try {
            String tests = Path.of(BoundaryTest.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
            List<String> command = Tools.Child.command(Collections.singletonList("-Dkafkafast.native.dir=" + dir), Load.class.getName(),
                jar + java.io.File.pathSeparator + tests);
            command.removeIf(arg -> arg.startsWith("-Dkafkafast.native.path"));
            Tools.Child child = new Tools.Child(command, null);
            child.assertExit(0, 60);
            assertTrue(child.output(), child.output().contains("LOADED"));
            assertFalse("nothing stays", Files.list(dir).findAny().isPresent());
        } finally {
            Files.deleteIfExists(dir);
        }
    }

    @Test
    public void directoriesMayBeRelative() throws Exception {
        String jar = System.getProperty("kafkafast.test.jar");
        org.junit.Assume.assumeTrue(jar != null && Files.isRegularFile(Path.of(jar)));
        Path work = Files.createTempDirectory("kafka-fast-load");
        Path dir = Files.createDirectory(work.resolve("relative"));
        Path copy = dir.resolve(System.mapLibraryName(NativeLoader.NAME));
        String tests = Path.of(BoundaryTest.class.getProtectionDomain().getCodeSource().getLocation().toURI()).toString();
        String classPath = Path.of(jar).toAbsolutePath() + java.io.File.pathSeparator + tests;
        try {
            for (String property : new String[] {"kafkafast.native.dir", "java.io.tmpdir"}) {
                assertLoadsIn(work, classPath, "-D" + property + "=relative");
                assertFalse("nothing stays", Files.list(dir).findAny().isPresent());
            }
            try (InputStream in = library()) {
                Files.copy(in, copy);
            }
            assertLoadsIn(work, classPath, "-Dkafkafast.native.dir=relative");
            assertLoadsIn(work, classPath, "-Dkafkafast.native.path=relative/" + copy.getFileName());
        } finally {
            Files.deleteIfExists(copy);
            Files.deleteIfExists(dir);
            Files.deleteIfExists(work);
        }
    }

    private static void assertLoadsIn(Path work, String classPath, String property) throws Exception {
        List<String> command = Tools.Child.command(Collections.singletonList(property), Load.class.getName(), classPath);
        command.removeIf(arg -> arg.startsWith("-Dkafkafast.native.path") && !arg.equals(property));
        Tools.Child child = new Tools.Child(command, work);
        child.assertExit(0, 60);
        assertTrue(property + ": " + child.output(), child.output().contains("LOADED"));
    }

    @Test
    public void twoClassLoadersHaveALibraryEach() throws Exception {
        NativeLoader.ensure();
        java.net.URL classes = NativeLoader.class.getProtectionDomain().getCodeSource().getLocation();
        List<java.net.URL> urls = new java.util.ArrayList<>();
        urls.add(classes);
        // Gradle keeps resources, and so the library, apart from classes.
        java.net.URL resource = NativeLoader.class.getResource("/META-INF/native/" + NativeLoader.platform() + "/" + System.mapLibraryName(NativeLoader.NAME));
        if (resource != null && resource.getProtocol().equals("file")) {
            urls.add(Path.of(resource.toURI()).getParent().getParent().getParent().getParent().toUri().toURL());
        }
        for (int i = 0; i < 2; i++) {
            try (java.net.URLClassLoader loader = new java.net.URLClassLoader(urls.toArray(new java.net.URL[0]), ClassLoader.getPlatformClassLoader())) {
                Class<?> conf = loader.loadClass("kafkafast.KafkaConf");
                assertTrue(conf != KafkaConf.class);
                Object made = conf.getConstructor().newInstance();
                assertEquals("1", conf.getMethod("get", String.class).invoke(made, "acks"));
                java.lang.reflect.InvocationTargetException e = assertThrows(java.lang.reflect.InvocationTargetException.class,
                    () -> conf.getMethod("set", String.class, Object.class).invoke(made, "acks", "2"));
                assertEquals("exceptions are of the same loader", loader, e.getCause().getClass().getClassLoader());
            }
        }
    }

    @Test
    public void jdk24RefusalNamesTheFlag() throws Exception {
        org.junit.Assume.assumeTrue(Runtime.version().feature() >= 24);
        List<String> command = Tools.Child.command(Collections.singletonList("--illegal-native-access=deny"), Load.class.getName(),
            System.getProperty("java.class.path"));
        command.remove("--enable-native-access=ALL-UNNAMED");
        // Allowed to somebody else, so that the denial is in force for us.
        command.add(1, "--enable-native-access=java.base");
        Tools.Child child = new Tools.Child(command, null);
        child.await(60);
        assertTrue(child.output(), child.output().contains("Start Java with --enable-native-access=ALL-UNNAMED (or =kafkafast on the module path)"));
    }

    @Test
    public void whatTheJvmSaysIsTurnedIntoWhatToDo() throws IOException {
        Path file = Path.of("/mnt/tmp/libkafkafast.so");
        String noexec = NativeLoader.explain(new UnsatisfiedLinkError(file + ": failed to map segment from shared object"), file).getMessage();
        assertEquals("/mnt/tmp is mounted noexec: name another directory by -Dkafkafast.native.dir=DIR, or the library by -Dkafkafast.native.path=FILE", noexec);
        String glibc = NativeLoader.explain(new UnsatisfiedLinkError("libc.so.6: version `GLIBC_2.34' not found"), file).getMessage();
        assertTrue(glibc, glibc.contains("newer C library"));
    }
}
