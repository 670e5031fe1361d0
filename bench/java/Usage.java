import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * CPU that this process has used so far, in ns. It is counted in ticks of 10 ms, so windows must be long beside that; the runner adds
 * several windows up, in which ticks lost at the end of one are found at the start of the next.
 */
final class Usage {
    private static final long TICK = 10_000_000L;

    final long user;
    final long sys;
    /** The part of {@link #all()} that C1 and C2 used: a JIT that is still busy is the easiest way to fool oneself. */
    final long compilers;

    private Usage(long user, long sys, long compilers) {
        this.user = user;
        this.sys = sys;
        this.compilers = compilers;
    }

    long all() {
        return user + sys;
    }

    static Usage now() throws IOException {
        long[] process = ticks(Path.of("/proc/self/stat"));
        return new Usage(process[0] * TICK, process[1] * TICK, compilerTicks() * TICK);
    }

    private static long compilerTicks() throws IOException {
        long sum = 0;
        try (DirectoryStream<Path> tasks = Files.newDirectoryStream(Path.of("/proc/self/task"))) {
            for (Path task : tasks) {
                try {
                    String name = Files.readString(task.resolve("comm"));
                    if (!name.startsWith("C1 Comp") && !name.startsWith("C2 Comp")) continue;
                    long[] thread = ticks(task.resolve("stat"));
                    sum += thread[0] + thread[1];
                } catch (IOException gone) {
                    // The thread ended between the listing and the look.
                }
            }
        }
        return sum;
    }

    /** User and system time; the name before them, in brackets, may hold anything. */
    private static long[] ticks(Path stat) throws IOException {
        String text = new String(Files.readAllBytes(stat), StandardCharsets.US_ASCII);
        String[] fields = text.substring(text.lastIndexOf(')') + 2).split(" ");
        return new long[] {Long.parseLong(fields[11]), Long.parseLong(fields[12])};
    }

    /** The most memory this process had until now, in MB. */
    static double peakMegabytes() throws IOException {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("VmHWM:")) return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024.0;
        }
        throw new IOException("/proc/self/status has no VmHWM");
    }
}
