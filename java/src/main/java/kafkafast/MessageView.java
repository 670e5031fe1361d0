package kafkafast;

import java.util.List;

/** What is known of a message besides its bytes, while a {@link ViewHandler} looks at it. */
public interface MessageView {
    /**
     * The topic.
     *
     * @return its name
     */
    String getTopic();

    /**
     * The partition.
     *
     * @return its index, from 0
     */
    int getPartition();

    /**
     * The offset in the partition.
     *
     * @return the offset, from 0
     */
    long getOffset();

    /**
     * The time of the record.
     *
     * @return milliseconds since 1970; -1 when it has none
     */
    long getTimestamp();

    /**
     * How often the message has been handed out, this time included.
     *
     * @return 1 for the first time
     */
    int getAttempt();

    /**
     * The key, copied.
     *
     * @return the key, or null
     */
    byte[] getKey();

    /**
     * The headers, copied.
     *
     * @return the headers in their order, duplicates kept; empty when there are none
     */
    List<Header> getHeaders();
}
