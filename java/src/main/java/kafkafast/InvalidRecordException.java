package kafkafast;

/** A record the broker refuses, or an argument that makes no sense, such as a partition the topic has not. */
public class InvalidRecordException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public InvalidRecordException(String message) {
        super(message);
    }
}
