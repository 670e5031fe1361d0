package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.Assume;

/**
 * A real broker for one test class, which may break it. Needs KAFKA_FAST_KAFKA_HOME, a folder with Kafka's jars. It is of the newest version
 * unless KAFKA_FAST_KAFKA_VERSION says 3.9.1 or 2.4.1, whose jars are in KAFKA_FAST_KAFKA_HOME_3_9 and _2_4.
 */
final class OwnBroker implements AutoCloseable {
    private final Path dir;
    private final int port;
    private final String home;
    /** Null for a broker of KRaft. */
    private Process zooKeeper;
    private Process process;

    /** Starts one; {@code properties} are lines of server.properties, {@code advertised} null for its own address. */
    OwnBroker(String advertised, String properties) throws Exception {
        this(advertised, 0, properties);
    }

    /** With a further listener, SSL, on the port {@code tls}; none for 0. */
    OwnBroker(String advertised, int tls, String properties) throws Exception {
        String version = System.getenv("KAFKA_FAST_KAFKA_VERSION");
        boolean older = version != null && !version.equals("4.4.0");
        home = System.getenv("KAFKA_FAST_KAFKA_HOME" + (older ? "_" + version.substring(0, 3).replace('.', '_') : ""));
        Assume.assumeNotNull(home);
        dir = Files.createTempDirectory("kafka-fast-broker");
        port = freePort();
        String address = "127.0.0.1:" + port;
        String own = older && version.startsWith("2.") ? withZooKeeper(address) : ofKRaft(address);
        String further = tls == 0 ? "" : ",SSL://127.0.0.1:" + tls;
        if (tls != 0) {
            own = own.replace("listeners=PLAINTEXT://" + address, "listeners=PLAINTEXT://" + address + further)
                .replace("CONTROLLER:PLAINTEXT", "CONTROLLER:PLAINTEXT,SSL:SSL");
        }
        Files.write(dir.resolve("server.properties"), Tools.utf8(String.join("\n", own,
            "advertised.listeners=PLAINTEXT://" + (advertised == null ? address : advertised) + further, "log.dirs=" + dir.resolve("data"),
            "offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", properties, "")));
        if (zooKeeper == null) {
            Process format = java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", dir.resolve("server.properties").toString());
            assertTrue(format.waitFor(60, TimeUnit.SECONDS));
            assertEquals(new String(Files.readAllBytes(dir.resolve("log"))), 0, format.exitValue());
        }
        start();
    }

    private static String ofKRaft(String address) throws IOException {
        int controller = freePort();
        return String.join("\n", "process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@127.0.0.1:" + controller,
            "listeners=PLAINTEXT://" + address + ",CONTROLLER://127.0.0.1:" + controller, "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT");
    }

    /** Starts a ZooKeeper too, which is its broker's alone. */
    private String withZooKeeper(String address) throws Exception {
        int at = freePort();
        Path conf = dir.resolve("zoo.cfg");
        Files.write(conf, Tools.utf8(String.join("\n", "clientPort=" + at, "clientPortAddress=127.0.0.1", "dataDir=" + dir.resolve("zookeeper"),
            "admin.enableServer=false", "")));
        zooKeeper = java("org.apache.zookeeper.server.ZooKeeperServerMain", conf.toString());
        awaitPort(at);
        return String.join("\n", "broker.id=1", "zookeeper.connect=127.0.0.1:" + at, "zookeeper.connection.timeout.ms=60000",
            "listeners=PLAINTEXT://" + address);
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            return socket.getLocalPort();
        }
    }

    /** A command of the newest Kafka's; {@code jars} go before its own. */
    static ProcessBuilder command(String jars, String main, String... args) {
        return commandOf(jars + System.getenv("KAFKA_FAST_KAFKA_HOME") + "/*", main, args);
    }

    private static ProcessBuilder commandOf(String classPath, String main, String... args) {
        String java = System.getenv("KAFKA_FAST_JAVA");
        ProcessBuilder builder = new ProcessBuilder(java == null ? System.getProperty("java.home") + "/bin/java" : java, "-Xmx384m", "-cp", classPath, main);
        for (String arg : args) {
            builder.command().add(arg);
        }
        return builder;
    }

    private Process java(String main, String... args) throws IOException {
        ProcessBuilder builder = commandOf(home + "/*", main, args);
        File log = dir.resolve("log").toFile();
        return builder.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start();
    }

    /** Starts it again, on the same port and data. */
    void start() throws Exception {
        process = java("kafka.Kafka", dir.resolve("server.properties").toString());
        awaitPort(port);
    }

    private static void awaitPort(int port) throws InterruptedException {
        Tools.await("a server on " + port, 60_000, () -> {
            try (Socket socket = new Socket("127.0.0.1", port)) {
                return socket.isConnected();
            } catch (IOException e) {
                return false;
            }
        });
    }

    /** Kills it: no goodbye. */
    void kill() {
        process.destroyForcibly().onExit().join();
    }

    /** The segments of a topic, by partition and age: files that the broker goes on writing. */
    List<Path> segments(String topic) throws IOException {
        try (Stream<Path> files = Files.walk(dir.resolve("data"), 2)) {
            return files.filter(f -> f.toString().endsWith(".log") && f.getParent().getFileName().toString().startsWith(topic + "-")).sorted()
                .collect(Collectors.toList());
        }
    }

    BrokerConf address() {
        return new BrokerConf("127.0.0.1", port);
    }

    @Override
    public void close() throws IOException {
        kill();
        if (zooKeeper != null) {
            zooKeeper.destroyForcibly().onExit().join();
        }
        try (Stream<Path> files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }
}
