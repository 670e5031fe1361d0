import java.io.IOException;
import java.util.Arrays;
import java.util.Locale;

/** One window of a run: from its making to its end, which prints what it cost as a line of JSON. */
final class Window {
    private final Options options;
    private final int number;
    private final Usage before;
    private final long started;

    Window(Options options, int number) throws IOException {
        this.options = options;
        this.number = number;
        before = Usage.now();
        started = System.nanoTime();
    }

    void end() throws IOException {
        end(null);
    }

    /** With the latencies of all messages in ns, in any order; null where there are none. */
    void end(long[] latencies) throws IOException {
        double seconds = (System.nanoTime() - started) / 1e9;
        Usage now = Usage.now();
        double n = options.count;
        double all = now.all() - before.all();
        double compilers = now.compilers - before.compilers;
        if (latencies != null) Arrays.sort(latencies);
        System.out.printf(Locale.ROOT, "{\"client\":\"%s\",\"op\":\"%s\",\"bytes\":%d,\"window\":%d,\"msgs_per_s\":%.0f,\"cpu_ns_per_msg\":%.1f,"
                + "\"user_ns_per_msg\":%.1f,\"sys_ns_per_msg\":%.1f,\"cpu_ns_per_msg_no_jit\":%.1f,\"rss_peak_mb\":%.1f,\"rss_start_mb\":%.1f,"
                + "\"p50_us\":%s,\"p99_us\":%s,\"p999_us\":%s}%n",
            options.client, options.op, options.bytes, number, n / seconds, all / n,
            (now.user - before.user) / n, (now.sys - before.sys) / n, (all - compilers) / n, Usage.peakMegabytes(), options.rssAtStart,
            quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 0.999));
        System.out.flush();
    }

    private static String quantile(long[] sorted, double q) {
        if (sorted == null) return "null";
        return String.format(Locale.ROOT, "%.1f", sorted[(int) Math.min(sorted.length - 1, (long) (q * sorted.length))] / 1e3);
    }
}
