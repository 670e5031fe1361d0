package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import java.net.URI;
import java.net.URL;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/** What Kafka's DumpLogSegments says of segment files. Anything but valid batches of valid records is a failure. */
final class LogDump {
    private static final String TOOL = "org/apache/kafka/tools/DumpLogSegments.class";
    private static final String CLIENTS = "org/apache/kafka/common/record/TimestampType.class";
    private static final Pattern FIELD = Pattern.compile("(\\w+): (\\S+)");
    private static final Pattern RECORD = Pattern.compile("\\| offset: .* headerKeys: \\[(.*)\\].*", Pattern.DOTALL);

    private static final Pattern GAP = Pattern.compile("Non-consecutive offsets in .*| *-?\\d+ is followed by \\d+");

    /** A line's fields by their names there. */
    static final class Line {
        private final Map<String, String> fields = new LinkedHashMap<>();
        final String text;

        Line(String text) {
            this.text = text;
            Matcher m = FIELD.matcher(text);
            while (m.find()) {
                fields.putIfAbsent(m.group(1), m.group(2));
            }
        }

        String text(String name) {
            assertNotNull("no " + name + " in: " + text, fields.get(name));
            return fields.get(name);
        }

        long number(String name) {
            return Long.parseLong(text(name));
        }

        boolean has(String name) {
            return fields.containsKey(name);
        }

        String headerKeys() {
            Matcher m = RECORD.matcher(text);
            assertTrue(text, m.matches());
            return m.group(1);
        }
    }

    /** A batch and its records. */
    static final class Batch {
        final Line head;
        final List<Line> records = new ArrayList<>();

        Batch(Line head) {
            this.head = head;
        }

        String codec() {
            return head.text("compresscodec").toLowerCase(java.util.Locale.ROOT);
        }

        long count() {
            return head.number("count");
        }

        @Override
        public String toString() {
            return head.text;
        }
    }

    private LogDump() {}

    /** The batches of each folder's segments, in order; a folder is a partition and named so, topic-0. */
    static Map<String, List<Batch>> of(List<Path> files) throws Exception {
        return of(files, false);
    }

    /** As {@link #of(List)}, of logs that may have gaps. */
    static Map<String, List<Batch>> of(List<Path> files, boolean compacted) throws Exception {
        String names = files.stream().map(Path::toString).collect(Collectors.joining(","));
        return parse(tool("org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files", names), compacted);
    }

    /** What a command-line tool of Kafka's prints; it must end well, within a minute. */
    static String tool(String main, String... args) throws Exception {
        ProcessBuilder command = OwnBroker.command(jarOf(TOOL) + ":" + jarOf(CLIENTS) + ":", main, args);
        command.command().add(1, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        command.command().add(1, "-Dfile.encoding=UTF-8");
        Tools.Child child = new Tools.Child(command.command(), null);
        child.assertExit(0, 60);
        return child.output();
    }

    /** The jar on our class path that has a class; it may be of a Java newer than ours. */
    private static String jarOf(String file) {
        URL found = LogDump.class.getClassLoader().getResource(file);
        assertNotNull(file + " is on the class path", found);
        return URI.create(found.getPath().substring(0, found.getPath().indexOf('!'))).getPath();
    }

    private static Map<String, List<Batch>> parse(String output, boolean compacted) {
        Map<String, List<Batch>> partitions = new LinkedHashMap<>();
        List<Batch> batches = null;
        for (String text : output.split("\n")) {
            Line line = new Line(text);
            if (text.startsWith("Dumping /")) {
                String folder = Paths.get(text.substring("Dumping ".length())).getParent().getFileName().toString();
                batches = partitions.computeIfAbsent(folder, f -> new ArrayList<>());
            } else if (text.startsWith("baseOffset: ")) {
                assertEquals(text, "true", line.text("isvalid"));
                assertEquals(text, 2, line.number("magic"));
                batches.add(new Batch(line));
            } else if (text.startsWith("| offset: ")) {
                batches.get(batches.size() - 1).records.add(line);
            } else if (!compacted || !GAP.matcher(text).matches()) {
                // "Found N invalid bytes at the end of", gaps, exceptions.
                assertTrue("DumpLogSegments complains: " + text, text.startsWith("Log starting offset: "));
            }
        }
        partitions.values().forEach(all -> all.forEach(batch ->
            assertEquals("the header tells how many records follow: " + batch, batch.count(), batch.records.size())));
        return partitions;
    }

    /** Fails unless every batch follows its predecessor in offsets and in its producer's sequence. */
    static void assertNoHoles(List<Batch> batches, boolean idempotent) {
        long offset = 0;
        Map<Long, Long> sequences = new LinkedHashMap<>();
        for (Batch batch : batches) {
            Line head = batch.head;
            assertEquals(head.text, offset, head.number("baseOffset"));
            assertEquals(head.text, offset + batch.count() - 1, head.number("lastOffset"));
            assertEquals(head.text, "false", head.text("isTransactional"));
            assertEquals(head.text, "false", head.text("isControl"));
            long producer = head.number("producerId");
            assertEquals(head.text, idempotent, producer >= 0);
            long sequence = idempotent ? sequences.getOrDefault(producer, 0L) : -1;
            assertEquals(head.text, idempotent ? 0 : -1, head.number("producerEpoch"));
            assertEquals(head.text, sequence, head.number("baseSequence"));
            assertEquals(head.text, idempotent ? sequence + batch.count() - 1 : -1, head.number("lastSequence"));
            for (Line record : batch.records) {
                assertEquals(record.text, offset++, record.number("offset"));
                assertEquals(record.text, idempotent ? sequence++ : -1, record.number("sequence"));
            }
            sequences.put(producer, sequence);
        }
    }
}
