package kafkafast;

/** Where a record was written. Immutable. */
public final class RecordMetadata {
    private final String topic;
    private final int partition;
    private final long offset;
    private final long timestamp;

    RecordMetadata(String topic, int partition, long offset, long timestamp) {
        this.topic = topic;
        this.partition = partition;
        this.offset = offset;
        this.timestamp = timestamp;
    }

    /**
     * The topic.
     *
     * @return its name
     */
    public String topic() {
        return topic;
    }

    /**
     * The partition.
     *
     * @return its index, from 0
     */
    public int partition() {
        return partition;
    }

    /**
     * The offset.
     *
     * @return the offset; -1 with {@code acks=0}, where brokers do not answer
     */
    public long offset() {
        return offset;
    }

    /**
     * Whether the offset is known.
     *
     * @return false with {@code acks=0}
     */
    public boolean hasOffset() {
        return offset >= 0;
    }

    /**
     * The timestamp of the record in the log.
     *
     * @return milliseconds since 1970; -1 when it is not known
     */
    public long timestamp() {
        return timestamp;
    }

    @Override
    public String toString() {
        return topic + "-" + partition + "@" + offset;
    }
}
