package kafkafast;

import java.io.File;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;

/** A real Redis that this JVM starts, from KAFKA_FAST_REDIS_SERVER or the redis-server of the PATH. */
final class OwnRedis {
    /** $1 is the program, $2 the port, $3 the folder. Its input ends with this JVM, however that ends; then it cleans up. */
    private static final String SCRIPT = "\"$1\" --bind 127.0.0.1 --port \"$2\" --dir \"$3\" --save '' >\"$3/log\" 2>&1 & pid=$!; "
        + "trap '' INT TERM HUP; read -r line; kill -9 $pid; wait; rm -rf \"$3\"";
    private static String shared;
    private static boolean tried;

    private OwnRedis() {}

    /** The address of the one for the whole JVM, started when it is asked for first; null where there is no redis-server. */
    static synchronized String shared() throws Exception {
        if (!tried) {
            tried = true;
            String program = program();
            // Somebody else may take the port meanwhile.
            for (int i = 0; i < 5 && program != null && shared == null; i++) {
                shared = start(program);
            }
        }
        return shared;
    }

    private static String program() {
        String named = System.getenv("KAFKA_FAST_REDIS_SERVER");
        if (named != null) {
            return named;
        }
        String path = System.getenv("PATH");
        return Stream.of((path == null ? "" : path).split(File.pathSeparator)).map(dir -> new File(dir, "redis-server"))
            .filter(File::canExecute).map(File::getPath).findFirst().orElse(null);
    }

    private static String start(String program) throws Exception {
        int port;
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            port = socket.getLocalPort();
        }
        Path dir = Files.createTempDirectory("kafka-fast-redis");
        Process guard = new ProcessBuilder("sh", "-c", SCRIPT, "redis", program, "" + port, dir.toString()).start();
        String log = "";
        for (int i = 0; i < 200; i++) {
            log = Files.exists(dir.resolve("log")) ? new String(Files.readAllBytes(dir.resolve("log"))) : "";
            if (log.contains("Ready to accept connections")) {
                return "127.0.0.1:" + port;
            }
            if (log.contains("Address already in use")) {
                guard.getOutputStream().close();
                return null;
            }
            Thread.sleep(50);
        }
        guard.getOutputStream().close();
        throw new IllegalStateException("Redis did not start: " + log);
    }
}
