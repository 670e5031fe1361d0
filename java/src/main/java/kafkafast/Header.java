package kafkafast;

import java.util.Arrays;
import java.util.Objects;

/** A header of a record: a name, and bytes that may be absent. Immutable as far as nobody changes the array. */
public final class Header {
    private final String key;
    private final byte[] value;

    /**
     * A header.
     *
     * @param key name, not null
     * @param value bytes, or null
     */
    public Header(String key, byte[] value) {
        this.key = Objects.requireNonNull(key, "A header needs a key");
        this.value = value;
    }

    /**
     * The name.
     *
     * @return the name, never null
     */
    public String key() {
        return key;
    }

    /**
     * The bytes, not copied.
     *
     * @return the value, or null
     */
    public byte[] value() {
        return value;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Header && ((Header) other).key.equals(key) && Arrays.equals(((Header) other).value, value);
    }

    @Override
    public int hashCode() {
        return 31 * key.hashCode() + Arrays.hashCode(value);
    }

    @Override
    public String toString() {
        return key + "=" + (value == null ? "null" : value.length + " bytes");
    }
}
