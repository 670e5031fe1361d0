package kafkafast;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** The form headers have at the boundary: count, then length and bytes of each name and value; big-endian, length -1 for no value. */
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

    static List<Header> decode(byte[] encoded) {
        if (encoded == null) {
            return Collections.emptyList();
        }
        ByteBuffer in = ByteBuffer.wrap(encoded);
        int count = in.getInt();
        List<Header> headers = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            byte[] key = new byte[in.getInt()];
            in.get(key);
            int length = in.getInt();
            byte[] value = length < 0 ? null : new byte[length];
            if (value != null) {
                in.get(value);
            }
            headers.add(new Header(new String(key, StandardCharsets.UTF_8), value));
        }
        return Collections.unmodifiableList(headers);
    }
}
