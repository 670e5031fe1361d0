package kafkafast;

/** What {@link Consumer#process(int, Handler)} does with each message. */
@FunctionalInterface
public interface Handler {
    /**
     * Handles a message. Returning acknowledges it; throwing anything makes it come again after a back-off
     * ({@code retry-backoff-ms}, doubling), until {@code max-attempts} are used up and it is set aside. An attempt is used up only when another
     * message was handled since the one before; while everything fails, nothing is. When the consumer closes meanwhile the message
     * is handed back without an attempt. The handler must not ask its own consumer for messages; another one it may read.
     *
     * @param message the message
     * @throws Exception whatever went wrong; logged as a warning
     */
    void handle(Message message) throws Exception;
}
