package kafkafast;

/** Something did not happen in its time. It may work later. */
public class TimeoutException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public TimeoutException(String message) {
        super(message);
    }
}
