package kafkafast;

/** A topic name that no broker accepts. */
public class InvalidTopicException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public InvalidTopicException(String message) {
        super(message);
    }
}
