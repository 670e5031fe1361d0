package kafkafast;

/** A record larger than the client's or the broker's limit. */
public class RecordTooLargeException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public RecordTooLargeException(String message) {
        super(message);
    }
}
