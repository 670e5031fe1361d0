package kafkafast;

import static org.junit.Assert.assertEquals;

import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** All that a record is, whoever tells it, so that two tellers can be compared. */
final class Row {
    /** As lists of rows are compared. */
    static final Comparator<Row> ORDER = Comparator.<Row>comparingInt(r -> r.partition).thenComparingLong(r -> r.offset);

    final int partition;
    final long offset;
    final long timestamp;
    final byte[] key;
    final byte[] value;
    final List<Header> headers;

    Row(int partition, long offset, long timestamp, byte[] key, byte[] value, List<Header> headers) {
        this.partition = partition;
        this.offset = offset;
        this.timestamp = timestamp;
        this.key = key;
        this.value = value;
        this.headers = headers;
    }

    static Row of(Message m) {
        return new Row(m.getPartition(), m.getOffset(), m.getTimestamp(), m.getKey(), m.getBytes(), m.getHeaders());
    }

    static Row of(MessageView meta, ByteBuffer value) {
        byte[] bytes = value == null ? null : new byte[value.remaining()];
        if (bytes != null) {
            value.get(bytes);
        }
        return new Row(meta.getPartition(), meta.getOffset(), meta.getTimestamp(), meta.getKey(), bytes, meta.getHeaders());
    }

    static Row of(ConsumerRecord<byte[], byte[]> r) {
        List<Header> headers = StreamSupport.stream(r.headers().spliterator(), false).map(h -> new Header(h.key(), h.value()))
            .collect(Collectors.toList());
        return new Row(r.partition(), r.offset(), r.timestamp(), r.key(), r.value(), headers);
    }

    /** Fails with the first row in which they differ. */
    static void assertSame(String what, List<Row> expected, List<Row> got) {
        for (int i = 0; i < Math.min(expected.size(), got.size()); i++) {
            assertEquals(what + ": row " + i + " of " + expected.size(), expected.get(i), got.get(i));
        }
        assertEquals(what + ": as many rows", expected.size(), got.size());
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Row && toString().equals(other.toString());
    }

    @Override
    public int hashCode() {
        return Integer.hashCode(partition) * 31 + Long.hashCode(offset);
    }

    @Override
    public String toString() {
        String named = headers.stream().map(h -> h.key() + "=" + show(h.value())).collect(Collectors.joining(", ", "[", "]"));
        return partition + "@" + offset + " at " + timestamp + " " + show(key) + " -> " + show(value) + " " + named;
    }

    /** Short bytes whole, long ones by their length and hash. */
    private static String show(byte[] bytes) {
        if (bytes == null) {
            return "null";
        }
        try {
            byte[] shown = bytes.length <= 32 ? bytes : Arrays.copyOf(MessageDigest.getInstance("SHA-256").digest(bytes), 8);
            return bytes.length + ":" + new BigInteger(1, shown).toString(16);
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }
}
