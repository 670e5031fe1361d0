package kafkafast;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * What happens when the JVM ends while clients are open: producers send what they hold, consumers hand back their units, all within
 * 5 seconds. Nothing is freed and no producer is closed, for hooks of the application may still send. Turned off by
 * {@code -Dkafkafast.exitHook=false}.
 */
final class ExitHook implements Runnable {
    private static final long LIMIT_MILLIS = 4_500;
    /** How long readers may take for what they hold; the rest of the time is for handing it back. */
    private static final long READERS_MILLIS = 3_000;
    private static Thread installed;

    /** One that runs in the middle of a test does what one at the exit does. */
    ExitHook() {}

    /** Called under the service's lock. */
    static void install() {
        if (installed == null && !"false".equals(System.getProperty("kafkafast.exitHook"))) {
            Thread hook = new Thread(null, new ExitHook(), "kafkafast-exit", 0, false);
            hook.setContextClassLoader(null);
            try {
                Runtime.getRuntime().addShutdownHook(hook);
                installed = hook;
            } catch (IllegalStateException e) {
                // The JVM is ending already: too late for a hook.
                installed = null;
            }
        }
    }

    /** Called under the service's lock, when the last client is gone: a hook would hold our class loader for ever. */
    static void remove() {
        if (installed != null) {
            try {
                Runtime.getRuntime().removeShutdownHook(installed);
            } catch (IllegalStateException e) {
                // It is about to run, and will find no client.
                return;
            }
            installed = null;
        }
    }

    @Override
    public void run() {
        long start = System.nanoTime();
        Map<Op, ProducerState> flushes = new LinkedHashMap<>();
        Map<ProducerState, Long> held = new LinkedHashMap<>();
        List<Op> ends = new ArrayList<>();
        for (ClientState client : Service.clients()) {
            Op closing = client.closing();
            if (closing != null) {
                ends.add(closing);
            } else if (client instanceof ProducerState) {
                ProducerState producer = (ProducerState) client;
                held.put(producer, producer.delivered());
                flushes.put(producer.startFlush(LIMIT_MILLIS), producer);
            } else {
                ends.add(client.startClose(READERS_MILLIS));
            }
        }
        for (Op end : ends) {
            await(end, start);
        }
        flushes.forEach((flush, producer) -> {
            boolean ended = await(flush, start);
            long flushed = producer.delivered() - held.get(producer);
            if (!ended || flush.error() != null) {
                Log.writeAtExit(Log.ERROR, Log.PRODUCER, "Producer was not closed; " + flushed + " records flushed at exit, " + producer.waiting()
                    + " could not be sent within 5 s and are lost" + (ended ? ": " + flush.error().getMessage() : "") + ". Use try-with-resources");
            } else if (flushed > 0) {
                Log.writeAtExit(Log.WARN, Log.PRODUCER, "Producer was not closed; " + flushed + " records flushed at exit. Use try-with-resources");
            }
        });
    }

    private static boolean await(Op op, long start) {
        long left = TimeUnit.MILLISECONDS.toNanos(LIMIT_MILLIS) - (System.nanoTime() - start);
        try {
            return op.await(Math.max(left, 0), "the end of the JVM");
        } catch (InterruptException e) {
            return op.hasEnded();
        }
    }
}
