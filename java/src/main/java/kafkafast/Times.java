package kafkafast;

import java.time.Duration;
import java.util.concurrent.TimeUnit;

/** Durations as numbers, without overflow. */
final class Times {
    private Times() {}

    static long millis(Duration d) {
        if (d == null) {
            throw new IllegalArgumentException("A Duration must not be null");
        }
        try {
            return Math.max(d.toMillis(), 0);
        } catch (ArithmeticException e) {
            return Long.MAX_VALUE;
        }
    }

    /** Saturates; negative times are none. */
    static long nanos(long millis) {
        return TimeUnit.MILLISECONDS.toNanos(Math.max(millis, 0));
    }
}
