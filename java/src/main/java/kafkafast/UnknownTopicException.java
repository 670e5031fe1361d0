package kafkafast;

/** The topic does not exist and is not created automatically. */
public class UnknownTopicException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public UnknownTopicException(String message) {
        super(message);
    }
}
