package kafkafast;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * The forms headers have at the boundary. To native: count, then length and bytes of each name and value; big-endian, length -1 for no value.
 * From native: as in a record.
 */
final class Headers {
    private Headers() {}

    static byte[] encode(List<Header> headers) {
        if (headers.isEmpty()) {
            return null;
        }
        byte[][] keys = new byte[headers.size()][];
        long size = 4;
        for (int i = 0; i < keys.length; i++) {
            keys[i] = headers.get(i).key().getBytes(StandardCharsets.UTF_8);
            byte[] value = headers.get(i).value();
            size += 8L + keys[i].length + (value == null ? 0 : value.length);
        }
        ByteBuffer out = ByteBuffer.allocate(Math.toIntExact(size));
        out.putInt(keys.length);
        for (int i = 0; i < keys.length; i++) {
            byte[] value = headers.get(i).value();
            out.putInt(keys[i].length).put(keys[i]).putInt(value == null ? -1 : value.length);
            if (value != null) {
                out.put(value);
            }
        }
        return out.array();
    }

    /** Headers as they lie in a record: each a name and a value, with their lengths before them. Native has checked that they fit. */
    static List<Header> read(byte[] raw) {
        if (raw == null) {
            return Collections.emptyList();
        }
        ByteBuffer in = ByteBuffer.wrap(raw);
        List<Header> headers = new ArrayList<>();
        while (in.hasRemaining()) {
            byte[] key = new byte[length(in)];
            in.get(key);
            int length = length(in);
            byte[] value = length < 0 ? null : new byte[length];
            if (value != null) {
                in.get(value);
            }
            headers.add(new Header(new String(key, StandardCharsets.UTF_8), value));
        }
        return Collections.unmodifiableList(headers);
    }

    /** A number as records have it: seven bits a byte, the lowest first, and the lowest bit is its sign. */
    private static int length(ByteBuffer in) {
        long z = 0;
        byte b = -1;
        for (int shift = 0; b < 0; shift += 7) {
            b = in.get();
            z |= (b & 0x7fL) << shift;
        }
        return (int) (z >>> 1 ^ -(z & 1));
    }
}
