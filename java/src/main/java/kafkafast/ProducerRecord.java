package kafkafast;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * A record to send, with everything a record may have. Constructors and getters are in the order of kafka-clients; keys and values are
 * byte arrays ({@code ProducerRecord<byte[], byte[]>}).
 *
 * @param <K> byte[] for {@link Producer#send(ProducerRecord)}
 * @param <V> byte[] for {@link Producer#send(ProducerRecord)}
 */
public class ProducerRecord<K, V> {
    private final String topic;
    private final Integer partition;
    private final Long timestamp;
    private final K key;
    private final V value;
    private final List<Header> headers;

    /**
     * A record.
     *
     * @param topic topic, not null
     * @param partition partition, or null: chosen by the key, as kafka-clients does, or freely without a key
     * @param timestamp milliseconds since 1970, or null: now
     * @param key key, or null
     * @param value value, or null for a tombstone
     * @param headers headers in their order, or null
     * @throws IllegalArgumentException for a null topic and for a negative partition or timestamp
     */
    public ProducerRecord(String topic, Integer partition, Long timestamp, K key, V value, Iterable<Header> headers) {
        if (topic == null) {
            throw new IllegalArgumentException("A record needs a topic");
        }
        if (partition != null && partition < 0) {
            throw new IllegalArgumentException("A partition is 0 or more, got " + partition + "; null leaves the choice to the producer");
        }
        if (timestamp != null && timestamp < 0) {
            throw new IllegalArgumentException("A timestamp is 0 or more milliseconds, got " + timestamp + "; null means now");
        }
        this.topic = topic;
        this.partition = partition;
        this.timestamp = timestamp;
        this.key = key;
        this.value = value;
        List<Header> copy = new ArrayList<>();
        if (headers != null) {
            headers.forEach(copy::add);
        }
        this.headers = Collections.unmodifiableList(copy);
    }

    /**
     * A record without headers.
     *
     * @param topic topic, not null
     * @param partition partition, or null
     * @param timestamp milliseconds since 1970, or null: now
     * @param key key, or null
     * @param value value, or null for a tombstone
     */
    public ProducerRecord(String topic, Integer partition, Long timestamp, K key, V value) {
        this(topic, partition, timestamp, key, value, null);
    }

    /**
     * A record with the time of now.
     *
     * @param topic topic, not null
     * @param partition partition, or null
     * @param key key, or null
     * @param value value, or null for a tombstone
     * @param headers headers in their order, or null
     */
    public ProducerRecord(String topic, Integer partition, K key, V value, Iterable<Header> headers) {
        this(topic, partition, null, key, value, headers);
    }

    /**
     * A record with the time of now and no headers.
     *
     * @param topic topic, not null
     * @param partition partition, or null
     * @param key key, or null
     * @param value value, or null for a tombstone
     */
    public ProducerRecord(String topic, Integer partition, K key, V value) {
        this(topic, partition, null, key, value, null);
    }

    /**
     * A record whose key chooses the partition.
     *
     * @param topic topic, not null
     * @param key key, or null
     * @param value value, or null for a tombstone
     */
    public ProducerRecord(String topic, K key, V value) {
        this(topic, null, null, key, value, null);
    }

    /**
     * A record without a key.
     *
     * @param topic topic, not null
     * @param value value, or null for a tombstone
     */
    public ProducerRecord(String topic, V value) {
        this(topic, null, null, null, value, null);
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
     * The partition asked for.
     *
     * @return the partition, or null
     */
    public Integer partition() {
        return partition;
    }

    /**
     * The time asked for.
     *
     * @return milliseconds since 1970, or null
     */
    public Long timestamp() {
        return timestamp;
    }

    /**
     * The key.
     *
     * @return the key, or null
     */
    public K key() {
        return key;
    }

    /**
     * The value.
     *
     * @return the value, or null for a tombstone
     */
    public V value() {
        return value;
    }

    /**
     * The headers.
     *
     * @return the headers, unmodifiable, maybe empty
     */
    public List<Header> headers() {
        return headers;
    }

    @Override
    public String toString() {
        return "ProducerRecord(topic=" + topic + ", partition=" + partition + ", timestamp=" + timestamp + ", headers=" + headers + ")";
    }
}
