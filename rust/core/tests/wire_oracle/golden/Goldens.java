import java.io.PrintStream;
import java.lang.reflect.Constructor;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.protocol.Readable;
import org.apache.kafka.common.protocol.types.*;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.utils.internals.BufferSupplier;

/**
 * Makes the golden files beside it with kafka-clients; the test holds our bytes against them. No test runs it, people do,
 * after a new Kafka came out or a new API came in (its name in APIS):
 *
 *     java -cp "$HOME/.cache/kafka-fast/kafka-4.4.0/*" Goldens.java .        (in this folder; JDK 17 or newer)
 *
 * The same Kafka makes the same files. messages.txt has the newest version of every API, filled by its schema and written
 * by Kafka's own class; aborted.txt fetch answers with aborted transactions; records.txt batches as Kafka's classes write
 * them and what those read back; errors.txt the table of error codes.
 */
public class Goldens {
    static final String[] APIS = {
        "ApiVersions", "CreatePartitions", "CreateTopics", "DeleteRecords", "DeleteTopics", "DescribeCluster",
        "DescribeConfigs", "Fetch", "FindCoordinator", "IncrementalAlterConfigs", "InitProducerId", "ListGroups",
        "ListOffsets", "Metadata", "OffsetCommit", "OffsetFetch", "OffsetForLeaderEpoch", "Produce",
        "SaslAuthenticate", "SaslHandshake",
    };
    static final int SAMPLES = 4;
    static final long NOW = 1_700_000_000_000L;

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        try (PrintStream out = file(folder, "messages.txt")) {
            for (String api : APIS) {
                for (String kind : new String[] {"Request", "Response"}) messages(out, api, kind);
            }
        }
        try (PrintStream out = file(folder, "aborted.txt")) {
            for (short version : new short[] {4, 11, 12, 18}) aborted(out, version);
        }
        try (PrintStream out = file(folder, "records.txt")) {
            records(out);
        }
        try (PrintStream out = file(folder, "errors.txt")) {
            for (Errors error : Errors.values()) {
                boolean refresh = error.exception() instanceof InvalidMetadataException;
                boolean retry = error.exception() instanceof RetriableException;
                out.println(error.code() + " " + error + " " + (refresh ? "Refresh" : retry ? "Retry" : "Fatal"));
            }
        }
    }

    static PrintStream file(Path folder, String name) throws Exception {
        return new PrintStream(folder.resolve(name).toFile(), "UTF-8");
    }

    // Messages: API, kind, version, bytes, and the value in the form of Rust's Debug. Parted by spaces.

    static void messages(PrintStream out, String api, String kind) throws Exception {
        Class<?> type = Class.forName("org.apache.kafka.common.message." + api + kind + "Data");
        // The newest that brokers list; an unstable one they do not.
        ApiKeys key = ApiKeys.forId(((ApiMessage) type.getConstructor().newInstance()).apiKey());
        short version = key.messageType.highestSupportedVersion(false);
        Schema schema = ((Schema[]) type.getField("SCHEMAS").get(null))[version];
        for (int i = 0; i < SAMPLES; i++) {
            Random random = new Random((api + kind + version + i).hashCode());
            Struct filled = (Struct) fill(schema, random, i == 0);
            ByteBuffer bytes = ByteBuffer.allocate(schema.sizeOf(filled));
            schema.write(bytes, filled);
            bytes.flip();
            // Tagged fields at their defaults are left out by the class, not by the schema.
            Constructor<?> read = type.getConstructor(Readable.class, short.class);
            message(out, api, kind, version, (Message) read.newInstance(new ByteBufferAccessor(bytes), version));
        }
    }

    static void message(PrintStream out, String api, String kind, short version, Message message) throws Exception {
        Schema schema = ((Schema[]) message.getClass().getField("SCHEMAS").get(null))[version];
        ByteBuffer bytes = MessageUtil.toByteBufferAccessor(message, version).buffer();
        String text = text(schema, schema.read(bytes.duplicate()));
        out.println(api + " " + kind + " " + version + " " + hex(bytes) + " " + text);
    }

    static Object fill(Type type, Random random, boolean full) {
        if (type.isNullable() && !full && random.nextInt(4) == 0) return null;
        if (type instanceof Schema) {
            Struct struct = new Struct((Schema) type);
            for (BoundField field : ((Schema) type).fields()) struct.set(field, fill(field.def.type, random, full));
            return struct;
        }
        if (type instanceof TaggedFields) {
            NavigableMap<Integer, Object> tagged = new TreeMap<>();
            ((TaggedFields) type).fields().forEach((tag, field) -> tagged.put(tag, fill(field.type, random, full)));
            return tagged;
        }
        if (type.arrayElementType().isPresent()) {
            Object[] items = new Object[full ? 1 + random.nextInt(2) : random.nextInt(3)];
            for (int i = 0; i < items.length; i++) items[i] = fill(type.arrayElementType().get(), random, full);
            return items;
        }
        boolean extreme = random.nextInt(6) == 0;
        String name = type.toString();
        switch (name) {
            case "BOOLEAN": return random.nextBoolean();
            case "INT8": return extreme ? Byte.MIN_VALUE : (byte) random.nextInt();
            case "INT16": return extreme ? Short.MAX_VALUE : (short) random.nextInt();
            case "INT32": return extreme ? Integer.MIN_VALUE : random.nextInt();
            case "INT64": return extreme ? Long.MAX_VALUE : random.nextLong();
            case "UUID": return extreme ? Uuid.ZERO_UUID : new Uuid(random.nextLong(), random.nextLong());
        }
        // A compact length of two bytes now and then.
        byte[] letters = new byte[extreme ? 130 : random.nextInt(9)];
        for (int i = 0; i < letters.length; i++) letters[i] = (byte) ('a' + random.nextInt(26));
        if (name.endsWith("STRING")) return new String(letters, StandardCharsets.UTF_8) + (full ? "é" : "");
        if (name.endsWith("BYTES")) return ByteBuffer.wrap(letters);
        if (name.endsWith("RECORDS")) return MemoryRecords.readableRecords(ByteBuffer.wrap(letters));
        throw new IllegalArgumentException(name);
    }

    static String text(Type type, Object value) {
        if (value == null) return "None";
        if (type instanceof Schema) {
            StringJoiner fields = new StringJoiner(", ", "Struct { ", " }");
            for (BoundField field : ((Schema) type).fields()) {
                Object of = ((Struct) value).get(field);
                if (!(field.def.type instanceof TaggedFields)) {
                    fields.add(field.def.name + ": " + text(field.def.type, of));
                    continue;
                }
                Map<Integer, Field> known = ((TaggedFields) field.def.type).fields();
                for (Map.Entry<?, ?> tagged : ((Map<?, ?>) of).entrySet()) {
                    Field tag = known.get(tagged.getKey());
                    fields.add(tag.name + ": " + text(tag.type, tagged.getValue()));
                }
            }
            return fields.toString();
        }
        if (type.arrayElementType().isPresent()) {
            StringJoiner items = new StringJoiner(", ", "[", "]");
            for (Object item : (Object[]) value) items.add(text(type.arrayElementType().get(), item));
            return items.toString();
        }
        if (value instanceof String) return "\"" + value + "\"";
        if (value instanceof ByteBuffer) return quoted((ByteBuffer) value);
        if (value instanceof MemoryRecords) return quoted(((MemoryRecords) value).buffer());
        if (value instanceof Uuid) {
            Uuid id = (Uuid) value;
            return String.format("%016x%016x", id.getMostSignificantBits(), id.getLeastSignificantBits());
        }
        return value.toString();
    }

    static String quoted(ByteBuffer bytes) {
        StringBuilder text = new StringBuilder("b\"");
        for (ByteBuffer rest = bytes.duplicate(); rest.hasRemaining(); ) {
            int b = rest.get() & 0xff;
            if (b == '\n') text.append("\\n");
            else if (b == '\r') text.append("\\r");
            else if (b == '\t') text.append("\\t");
            else if (b == 0) text.append("\\0");
            else if (b == '\\' || b == '"') text.append('\\').append((char) b);
            else if (b >= 0x20 && b < 0x7f) text.append((char) b);
            else text.append(String.format("\\x%02x", b));
        }
        return text.append('"').toString();
    }

    /** Two producers' transactions in one partition: the first is aborted, the second committed. */
    static void aborted(PrintStream out, short version) throws Exception {
        ByteBuffer log = ByteBuffer.allocate(4096);
        log.put(MemoryRecords.withTransactionalRecords(
            (byte) 2, 10, Compression.NONE, 71, (short) 1, 0, 4,
            record(0, "k", "aborted"), record(1, "k", "too")).buffer());
        log.put(MemoryRecords.withTransactionalRecords(
            (byte) 2, 12, Compression.NONE, 72, (short) 0, 0, 4, record(2, "k", "committed")).buffer());
        log.put(marker(13, 71, ControlRecordType.ABORT));
        log.put(marker(14, 72, ControlRecordType.COMMIT));
        log.flip();
        FetchResponseData.PartitionData partition = new FetchResponseData.PartitionData()
            .setPartitionIndex(3).setHighWatermark(15).setLastStableOffset(15)
            .setAbortedTransactions(List.of(
                new FetchResponseData.AbortedTransaction().setProducerId(71).setFirstOffset(10)))
            .setRecords(MemoryRecords.readableRecords(log));
        FetchResponseData.FetchableTopicResponse topic =
            new FetchResponseData.FetchableTopicResponse().setPartitions(List.of(partition));
        if (version < 13) topic.setTopic("t");
        else topic.setTopicId(new Uuid(1, 2));
        message(out, "Fetch", "Response", version, new FetchResponseData().setResponses(List.of(topic)));
    }

    // Records: a name, the bytes, then what Kafka's classes read there, a line a batch and a line a record.

    static void records(PrintStream out) throws Exception {
        SimpleRecord[] nulls = {
            record(0, null, "value"), record(1, "key", null), record(2, null, null), record(3, "", ""),
            record(-5, "é", "中"),
        };
        SimpleRecord[] headers = {
            record(0, "k", "v", "a", "1", "a", "2", "b", "", "a", null), record(1, "k", "v", "", null, "", "x"),
            record(2, null, null, "trace-é", "中"),
        };
        SimpleRecord[] many = new SimpleRecord[12];
        for (int i = 0; i < many.length; i++) {
            many[i] = record(i, "key-" + i % 7, "a value that repeats itself " + i % 5, "h", "1");
        }
        section(out, "nulls and empties", MemoryRecords.withRecords(Compression.NONE, nulls).buffer());
        section(out, "headers that repeat", MemoryRecords.withRecords(Compression.NONE, headers).buffer());
        section(out, "times that jump", MemoryRecords.withRecords(
            Compression.NONE, record(0, null, "a"), record(-NOW, null, "b"), record(1L << 40, null, "c")).buffer());
        section(out, "a dozen", MemoryRecords.withRecords(Compression.NONE, many).buffer());
        section(out, "idempotent", MemoryRecords.withIdempotentRecords(
            Compression.NONE, 77, (short) 3, 2_147_483_646, headers).buffer());
        section(out, "transactional", MemoryRecords.withTransactionalRecords(
            Compression.NONE, 77, (short) 3, 5, nulls).buffer());
        section(out, "commit", marker(20, 77, ControlRecordType.COMMIT));
        section(out, "abort", marker(21, 77, ControlRecordType.ABORT));
        section(out, "append time", appendTime(headers));
        section(out, "offsets with gaps", gaps(many));
        section(out, "compacted", compacted(MemoryRecords.withRecords(100L, Compression.NONE, 9, nulls)));
        ByteBuffer empty = ByteBuffer.allocate(61);
        DefaultRecordBatch.writeEmptyHeader(
            empty, (byte) 2, 77, (short) 3, 5, 200, 204, 9, TimestampType.CREATE_TIME, NOW, false, false);
        section(out, "nothing left", flipped(empty));
        for (CompressionCase codec : CompressionCase.values()) {
            section(out, codec.name(), MemoryRecords.withRecords(7L, codec.compression, 2, many).buffer());
        }
        ByteBuffer two = ByteBuffer.allocate(4096);
        two.put(MemoryRecords.withRecords(Compression.NONE, nulls).buffer());
        two.put(MemoryRecords.withRecords(5L, Compression.NONE, 1, headers).buffer());
        section(out, "the last cut off", flipped(two).slice(0, two.limit() - 7));
        for (byte magic = 0; magic < 2; magic++) {
            section(out, "format " + magic, MemoryRecords.withRecords(
                magic, 300L, Compression.NONE, record(0, "k", "v"), record(1, null, "w")).buffer());
        }
    }

    enum CompressionCase {
        gzip(Compression.gzip().build()), snappy(Compression.snappy().build()), lz4(Compression.lz4().build()),
        zstd(Compression.zstd().build());

        final Compression compression;

        CompressionCase(Compression compression) {
            this.compression = compression;
        }
    }

    static SimpleRecord record(long since, String key, String value, String... headers) {
        Header[] all = new Header[headers.length / 2];
        for (int i = 0; i < all.length; i++) all[i] = new RecordHeader(headers[2 * i], utf8(headers[2 * i + 1]));
        return new SimpleRecord(NOW + since, utf8(key), utf8(value), all);
    }

    static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static ByteBuffer marker(long offset, long producer, ControlRecordType type) {
        EndTransactionMarker marker = new EndTransactionMarker(type, 6);
        return MemoryRecords.withEndTransactionMarker(offset, NOW, 4, producer, (short) 1, marker).buffer();
    }

    static ByteBuffer appendTime(SimpleRecord[] from) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(
            ByteBuffer.allocate(4096), (byte) 2, Compression.NONE, TimestampType.LOG_APPEND_TIME, 30, NOW + 12_345);
        for (SimpleRecord record : from) builder.append(record);
        return builder.build().buffer();
    }

    static ByteBuffer gaps(SimpleRecord[] from) {
        MemoryRecordsBuilder builder =
            MemoryRecords.builder(ByteBuffer.allocate(4096), Compression.NONE, TimestampType.CREATE_TIME, 40);
        long[] offsets = {40, 43, 50, 51, 200};
        for (int i = 0; i < offsets.length; i++) builder.appendWithOffset(offsets[i], from[i]);
        return builder.build().buffer();
    }

    /** What the log cleaner leaves: offsets stay, and a tombstone brings the time when it may go (KIP-534). */
    static ByteBuffer compacted(MemoryRecords records) {
        MemoryRecords.RecordFilter filter = new MemoryRecords.RecordFilter(NOW + 1000, 60_000) {
            protected BatchRetentionResult checkBatchRetention(RecordBatch batch) {
                return new BatchRetentionResult(BatchRetention.RETAIN_EMPTY, false);
            }

            protected boolean shouldRetainRecord(RecordBatch batch, Record record) {
                return record.offset() == 101 || record.offset() == 103;
            }
        };
        ByteBuffer kept = ByteBuffer.allocate(4096);
        records.filterTo(filter, kept, BufferSupplier.NO_CACHING, 4096);
        return flipped(kept);
    }

    static ByteBuffer flipped(ByteBuffer buffer) {
        buffer.flip();
        return buffer;
    }

    static void section(PrintStream out, String name, ByteBuffer bytes) {
        out.println("= " + name);
        out.println(hex(bytes));
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(bytes.duplicate()).batches()) {
            if (batch.magic() < 2) {
                out.println("old format " + batch.magic() + " at " + batch.baseOffset());
                break;
            }
            String flags = (batch.isControlBatch() ? "c" : "") + (batch.isTransactional() ? "t" : "")
                + (batch.timestampType() == TimestampType.LOG_APPEND_TIME ? "a" : "");
            out.println("batch " + batch.baseOffset() + "-" + batch.lastOffset() + " count " + batch.countOrNull()
                + " codec " + batch.compressionType().id + " producer " + batch.producerId() + "/" + batch.producerEpoch()
                + "/" + batch.baseSequence() + " leader " + batch.partitionLeaderEpoch() + " max " + batch.maxTimestamp()
                + " flags " + (flags.isEmpty() ? "none" : flags));
            for (Record record : batch) {
                StringBuilder line = new StringBuilder(record.offset() + " " + record.timestamp());
                line.append(" ").append(hex(record.key())).append(" ").append(hex(record.value()));
                for (Header header : record.headers()) {
                    line.append(" ").append(hex(ByteBuffer.wrap(utf8(header.key())))).append("=");
                    line.append(hex(header.value() == null ? null : ByteBuffer.wrap(header.value())));
                }
                out.println(line);
            }
        }
    }

    static String hex(ByteBuffer bytes) {
        if (bytes == null) return "null";
        if (!bytes.hasRemaining()) return "empty";
        StringBuilder text = new StringBuilder();
        for (ByteBuffer rest = bytes.duplicate(); rest.hasRemaining(); ) text.append(String.format("%02x", rest.get()));
        return text.toString();
    }
}
