package kafkafast;

import java.util.logging.LogManager;

/**
 * The loggers of this library, through the JDK's System.Logger, which java.util.logging, SLF4J and Log4j all can take over. Native code's
 * lines come through the service thread.
 */
final class Log {
    static final int ERROR = 0;
    static final int WARN = 1;
    static final int INFO = 2;
    static final int PRODUCER = 0;
    static final int CONSUMER = 1;
    static final int GROUP = 2;
    static final int NET = 3;

    private static final System.Logger.Level[] LEVELS = {System.Logger.Level.ERROR, System.Logger.Level.WARNING, System.Logger.Level.INFO};
    private static final System.Logger[] LOGGERS = {logger("producer"), logger("consumer"), logger("group"), logger("net")};

    private Log() {}

    private static System.Logger logger(String room) {
        return System.getLogger("kafkafast." + room);
    }

    static void write(int level, int logger, String text) {
        try {
            LOGGERS[logger].log(LEVELS[Math.min(level, INFO)], text);
        } catch (RuntimeException e) {
            // A logger that throws must not end the service thread.
            System.err.println("kafkafast: " + text + " (and the logger failed: " + e + ")");
        }
    }

    static void write(int level, int logger, String text, Throwable cause) {
        try {
            LOGGERS[logger].log(LEVELS[Math.min(level, INFO)], text, cause);
        } catch (RuntimeException e) {
            System.err.println("kafkafast: " + text + ": " + cause + " (and the logger failed: " + e + ")");
        }
    }

    /** While the JVM ends: java.util.logging closes its handlers in a hook of its own, maybe before ours has spoken. */
    static void writeAtExit(int level, int logger, String text) {
        write(level, logger, text);
        // Looked at afterwards: they may have gone in between. Saying it twice is better than not at all.
        if (handlersAreGone(logger)) {
            System.err.println(LEVELS[level] + ": " + text);
        }
    }

    private static boolean handlersAreGone(int logger) {
        try {
            String bound = LOGGERS[logger].getClass().getName();
            if (!bound.startsWith("sun.") && !bound.startsWith("jdk.")) {
                return false;
            }
            java.util.logging.Logger root = LogManager.getLogManager().getLogger("");
            return root == null || root.getHandlers().length == 0;
        } catch (LinkageError | RuntimeException e) {
            // No java.util.logging in this runtime: the JDK's own fallback has no hook.
            return false;
        }
    }
}
