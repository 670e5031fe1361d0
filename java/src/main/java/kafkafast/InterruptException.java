package kafkafast;

/**
 * The waiting thread was interrupted. Its interrupt flag is set again, so that the code above sees it too.
 */
public class InterruptException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library. Sets the interrupt flag of the current thread.
     *
     * @param message what was interrupted
     */
    public InterruptException(String message) {
        super(message);
        Thread.currentThread().interrupt();
    }
}
