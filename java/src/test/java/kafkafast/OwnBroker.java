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

/** A real broker for one test class, which may break it. Needs KAFKA_FAST_KAFKA_HOME, a folder with Kafka's jars. */
final class OwnBroker implements AutoCloseable {
    private final Path dir;
    private final int port;
    private Process process;

    /** Starts one; {@code properties} are lines of server.properties, {@code advertised} null for its own address. */
    OwnBroker(String advertised, String properties) throws Exception {
        String home = System.getenv("KAFKA_FAST_KAFKA_HOME");
        Assume.assumeNotNull(home);
        dir = Files.createTempDirectory("kafka-fast-broker");
        port = freePort();
        int controller = freePort();
        String address = "127.0.0.1:" + port;
        Files.write(dir.resolve("server.properties"), Tools.utf8(String.join("\n", "process.roles=broker,controller", "node.id=1",
            "controller.quorum.voters=1@127.0.0.1:" + controller, "listeners=PLAINTEXT://" + address + ",CONTROLLER://127.0.0.1:" + controller,
            "advertised.listeners=PLAINTEXT://" + (advertised == null ? address : advertised), "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", "log.dirs=" + dir.resolve("data"),
            "offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", properties, "")));
        Process format = java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", dir.resolve("server.properties").toString());
        assertTrue(format.waitFor(60, TimeUnit.SECONDS));
        assertEquals(new String(Files.readAllBytes(dir.resolve("log"))), 0, format.exitValue());
        start();
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            return socket.getLocalPort();
        }
    }

    /** A command of Kafka's; {@code jars} go before those of the broker. */
    static ProcessBuilder command(String jars, String main, String... args) {
        String java = System.getenv("KAFKA_FAST_JAVA");
        ProcessBuilder builder = new ProcessBuilder(java == null ? System.getProperty("java.home") + "/bin/java" : java, "-Xmx384m", "-cp",
            jars + System.getenv("KAFKA_FAST_KAFKA_HOME") + "/*", main);
        for (String arg : args) {
            builder.command().add(arg);
        }
        return builder;
    }

    private Process java(String main, String... args) throws IOException {
        ProcessBuilder builder = command("", main, args);
        File log = dir.resolve("log").toFile();
        return builder.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start();
    }

    /** Starts it again, on the same port and data. */
    void start() throws Exception {
        process = java("kafka.Kafka", dir.resolve("server.properties").toString());
        Tools.await("a broker on " + port, 60_000, () -> {
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
        try (Stream<Path> files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }
}
