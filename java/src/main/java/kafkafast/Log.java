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

    private static final int MOST_TEXT = 1000;
    private static final System.Logger.Level[] LEVELS = {System.Logger.Level.ERROR, System.Logger.Level.WARNING, System.Logger.Level.INFO};
    private static final System.Logger[] LOGGERS = {logger("producer"), logger("consumer"), logger("group"), logger("net")};

    private Log() {}

    private static System.Logger logger(String room) {
        return System.getLogger("kafkafast." + room);
    }

    /** Never throws: a logger that fails, in whatever way, must not decide what becomes of records, nor end the service thread. */
    static void write(int level, int logger, String text) {
        try {
            LOGGERS[logger].log(LEVELS[Math.min(level, INFO)], text);
        } catch (Throwable e) {
            writeToErr(text, e);
        }
    }

    /** As {@link #write(int, int, String)}. */
    static void write(int level, int logger, String text, Throwable cause) {
        try {
            LOGGERS[logger].log(LEVELS[Math.min(level, INFO)], text, cause);
        } catch (Throwable e) {
            writeToErr(text + ": " + describe(cause), e);
        }
    }

    private static void writeToErr(String text, Throwable failure) {
        try {
            System.err.println("kafkafast: " + text + " (and the logger failed: " + describe(failure) + ")");
        } catch (Throwable e) {
            // There is nobody left to tell.
        }
    }

    /**
     * What was thrown, as a text of at most 1,000 characters. Never throws, whatever the methods of user code's exceptions do: they may throw
     * themselves, give null, or there may be no memory.
     */
    static String describe(Throwable e) {
        try {
            String text = e.toString();
            if (text != null) {
                return text.length() <= MOST_TEXT ? text : text.substring(0, MOST_TEXT);
            }
        } catch (Throwable more) {
            // Its class says something, too.
        }
        try {
            return e.getClass().getName() + ", which does not tell its text";
        } catch (Throwable more) {
            return "an exception that does not tell its text";
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
