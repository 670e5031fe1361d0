package kafkafast;

import java.nio.charset.StandardCharsets;
import java.util.List;

/** A message, with bytes of its own: it may be kept and handed to other threads. */
public final class Message implements MessageView {
    /** What messages of one chunk have in common. */
    static final class Origin {
        final String topic;
        final int partition;
        final int attempt;

        Origin(String topic, int partition, int attempt) {
            this.topic = topic;
            this.partition = partition;
            this.attempt = attempt;
        }
    }

    private final Origin origin;
    private final long offset;
    private final long timestamp;
    private final byte[] key;
    private final byte[] value;
    private final byte[] headers;

    Message(Origin origin, long offset, long timestamp, byte[] key, byte[] value, byte[] headers) {
        this.origin = origin;
        this.offset = offset;
        this.timestamp = timestamp;
        this.key = key;
        this.value = value;
        this.headers = headers;
    }

    @Override
    public String getTopic() {
        return origin.topic;
    }

    @Override
    public int getPartition() {
        return origin.partition;
    }

    @Override
    public long getOffset() {
        return offset;
    }

    @Override
    public long getTimestamp() {
        return timestamp;
    }

    @Override
    public int getAttempt() {
        return origin.attempt;
    }

    /**
     * The bytes of the message, not copied: the array belongs to the caller.
     *
     * @return the value; null for a tombstone
     */
    public byte[] getBytes() {
        return value;
    }

    /**
     * The bytes read as UTF-8.
     *
     * @return the text; null for a tombstone
     */
    public String text() {
        return value == null ? null : new String(value, StandardCharsets.UTF_8);
    }

    @Override
    public byte[] getKey() {
        return key;
    }

    @Override
    public List<Header> getHeaders() {
        return Headers.read(headers);
    }

    @Override
    public String toString() {
        return getTopic() + "/" + getPartition() + "@" + offset + " (" + (value == null ? "tombstone" : value.length + " bytes") + ")";
    }
}
