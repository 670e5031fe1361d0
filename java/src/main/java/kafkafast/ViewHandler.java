package kafkafast;

import java.nio.ByteBuffer;

/** What {@link Consumer#forEachView(int, long, ViewHandler)} does with each message. */
@FunctionalInterface
public interface ViewHandler {
    /**
     * Looks at a message in place. Both arguments are valid inside this call only: afterwards they show other bytes.
     *
     * @param meta where the message comes from, its key, its timestamp
     * @param value its bytes, read-only, from position to limit; null for a tombstone
     * @throws Exception passed on, wrapped unless unchecked; the message comes again
     */
    void handle(MessageView meta, ByteBuffer value) throws Exception;
}
