package kafkafast;

/** The broker is too old, or its bytes make no sense. */
public class ProtocolException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public ProtocolException(String message) {
        super(message);
    }
}
