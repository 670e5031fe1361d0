import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Arrays;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.Record;

/**
 * Batches by kafka-clients' own classes: {@code write DIR} writes those that lie beside this file, {@code check FILE...} reads ours.
 * {@code java -cp 'KAFKA/*' Golden.java write .}, with the jars of kafka-clients 4.4.0 and its codecs. The records are those of
 * {@code main.rs}.
 */
public class Golden {
    static final int COUNT = 41;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write(args[1], "gzip", Compression.gzip().build());
            write(args[1], "snappy", Compression.snappy().build());
            write(args[1], "lz4", Compression.lz4().build());
            write(args[1], "lz4-17", Compression.lz4().level(17).build());
            write(args[1], "zstd", Compression.zstd().build());
            write(args[1], "zstd-fast", Compression.zstd().level(-5).build());
            write(args[1], "zstd-22", Compression.zstd().level(22).build());
        } else {
            for (String file : Arrays.asList(args).subList(1, args.length)) {
                check(Paths.get(file));
            }
        }
    }

    static void write(String dir, String name, Compression compression) throws Exception {
        ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
        MemoryRecordsBuilder builder = MemoryRecords.builder(buffer, compression, TimestampType.CREATE_TIME, 0);
        for (int i = 0; i < COUNT; i++) {
            builder.append(timestamp(i), key(i), value(i), headers(i));
        }
        ByteBuffer batch = builder.build().buffer();
        byte[] bytes = new byte[batch.remaining()];
        batch.get(bytes);
        Files.write(Paths.get(dir, name + ".batch"), bytes);
    }

    static void check(Path file) throws Exception {
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file)));
        int i = 0;
        for (Record record : records.records()) {
            record.ensureValid();
            boolean same = record.offset() == i && record.timestamp() == timestamp(i) && Arrays.equals(bytes(record.key()), key(i))
                && Arrays.equals(bytes(record.value()), value(i)) && Arrays.equals(record.headers(), headers(i));
            if (!same) {
                throw new AssertionError(file + ": record " + i + " is " + record);
            }
            i++;
        }
        if (i != COUNT) {
            throw new AssertionError(file + ": " + i + " records");
        }
        System.out.println(file.getFileName() + " " + records.batches().iterator().next().compressionType().name + " " + i);
    }

    static byte[] bytes(ByteBuffer buffer) {
        if (buffer == null) {
            return null;
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static long timestamp(int i) {
        return 1_700_000_000_000L + i;
    }

    static byte[] key(int i) {
        return i % 5 == 0 ? null : ("key-" + i).getBytes(StandardCharsets.UTF_8);
    }

    /** 5,000 bytes that repeat; the last one is noise, which no codec shrinks. */
    static byte[] value(int i) {
        byte[] text = ("record " + i + " ").getBytes(StandardCharsets.UTF_8);
        byte[] value = new byte[i == COUNT - 1 ? 300 : 5_000];
        int noise = 1;
        for (int at = 0; at < value.length; at++) {
            noise = noise * 1_103_515_245 + 12_345;
            value[at] = i == COUNT - 1 ? (byte) (noise >>> 16) : text[at % text.length];
        }
        return value;
    }

    static Header[] headers(int i) {
        if (i % 10 != 0) {
            return new Header[0];
        }
        return new Header[] {new RecordHeader("a", new byte[] {'1'}), new RecordHeader("a", (byte[]) null)};
    }
}
