import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What a run is asked to do: {@code --name value}, the same names for every candidate of the bench (see bench/README.md). */
final class Options {
    private static final Set<String> NAMES = Set.of("client", "op", "port", "topic", "bytes", "payload", "count", "windows", "codec", "acks",
        "batch", "rate", "threads", "way");

    private final Map<String, String> values = new HashMap<>();

    final String client;
    final String op;
    final int port;
    final String topic;
    final int bytes;
    final boolean json;
    final int count;
    final int windows;
    final String codec;
    final boolean acksAll;
    final boolean tuned;
    final int rate;
    final int threads;
    final String way;
    /** Memory of the JVM before there is a client, in MB. */
    final double rssAtStart = Usage.peakMegabytes();

    Options(String... args) throws IOException {
        for (int i = 0; i < args.length; i += 2) {
            String name = args[i].startsWith("--") ? args[i].substring(2) : "";
            if (!NAMES.contains(name) || i + 1 == args.length) throw new IllegalArgumentException("not understood: " + args[i]);
            values.put(name, args[i + 1]);
        }
        client = oneOf("client", null, "kafka-fast-java", "kafka-clients");
        op = oneOf("op", null, "produce", "consume", "enqueue", "paced", "latency");
        port = number("port", null, 1);
        topic = text("topic", null);
        bytes = number("bytes", null, 1);
        json = oneOf("payload", "plain", "plain", "json").equals("json");
        count = number("count", null, 1);
        windows = number("windows", null, 1);
        codec = oneOf("codec", "none", "none", "snappy", "gzip", "lz4", "zstd");
        acksAll = oneOf("acks", "1", "1", "all").equals("all");
        tuned = oneOf("batch", "default", "default", "tuned").equals("tuned");
        rate = number("rate", op.equals("paced") || op.equals("latency") ? null : "0", 0);
        threads = number("threads", "1", 1);
        way = oneOf("way", "readMsg", "readMsg", "view", "readBatch");
    }

    boolean isFast() {
        return client.equals("kafka-fast-java");
    }

    private String text(String name, String fallback) {
        String value = values.getOrDefault(name, fallback);
        if (value == null) throw new IllegalArgumentException("--" + name + " is missing");
        return value;
    }

    private int number(String name, String fallback, int least) {
        int value = Integer.parseInt(text(name, fallback));
        if (value < least) throw new IllegalArgumentException("--" + name + " must be at least " + least);
        return value;
    }

    private String oneOf(String name, String fallback, String... allowed) {
        String value = text(name, fallback);
        if (!List.of(allowed).contains(value)) throw new IllegalArgumentException("--" + name + " is one of " + String.join(", ", allowed) + ", got " + value);
        return value;
    }
}
