import java.nio.charset.StandardCharsets;
import java.util.Random;

/** The values that are sent: a pool, so that making them costs nothing in the window and no single cache line serves all. */
final class Payloads {
    static final int SIZE = 1024;
    private static final String[] WORDS = {"order", "customer", "delivered", "pending", "warehouse", "north", "south", "express", "standard",
        "gift", "invoice", "paid", "refund", "customs", "fragile", "weight", "height", "label", "printed", "returned"};

    static byte[][] make(int bytes, boolean json) {
        return json ? texts(bytes) : plain(bytes);
    }

    private static byte[][] plain(int bytes) {
        byte[][] made = new byte[SIZE][bytes];
        for (int i = 0; i < SIZE; i++) {
            for (int j = 0; j < bytes; j++) made[i][j] = (byte) (' ' + (i * 31 + j * 7) % 90);
        }
        return made;
    }

    /** JSON as programs send it: names that repeat and values that do not. Snappy makes 0.3 to 0.4 of it. */
    private static byte[][] texts(int bytes) {
        Random random = new Random(1);
        byte[][] made = new byte[SIZE][];
        for (int i = 0; i < SIZE; i++) {
            StringBuilder text = new StringBuilder();
            while (text.length() < bytes) {
                text.append("{\"order_id\":").append(random.nextInt(1_000_000_000))
                    .append(",\"customer\":\"").append(Long.toHexString(random.nextLong()))
                    .append("\",\"active\":").append(random.nextBoolean())
                    .append(",\"amount\":").append(random.nextInt(100_000) / 100.0)
                    .append(",\"updated_at\":\"2026-01-").append(10 + random.nextInt(20)).append("T10:00:00Z\",\"note\":\"");
                for (int w = 0; w < 6; w++) text.append(WORDS[random.nextInt(WORDS.length)]).append(' ');
                text.append("\"}\n");
            }
            made[i] = text.substring(0, bytes).getBytes(StandardCharsets.US_ASCII);
        }
        return made;
    }

    private Payloads() {}
}
