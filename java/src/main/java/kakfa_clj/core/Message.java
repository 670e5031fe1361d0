package kakfa_clj.core;

/** {@link kafkafast.Message} under the name of the documentation of kafka-clj. */
public final class Message {
    private final kafkafast.Message message;

    Message(kafkafast.Message message) {
        this.message = message;
    }

    /**
     * The topic.
     *
     * @return its name
     */
    public String getTopic() {
        return message.getTopic();
    }

    /**
     * The partition.
     *
     * @return its index, from 0
     */
    public int getPartition() {
        return message.getPartition();
    }

    /**
     * The offset in the partition.
     *
     * @return the offset, from 0
     */
    public long getOffset() {
        return message.getOffset();
    }

    /**
     * The bytes of the message.
     *
     * @return the value; null for a tombstone
     */
    public byte[] getBytes() {
        return message.getBytes();
    }

    @Override
    public String toString() {
        return message.toString();
    }
}
