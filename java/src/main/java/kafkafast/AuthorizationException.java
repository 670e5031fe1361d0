package kafkafast;

/** The broker knows us and does not let us. */
public class AuthorizationException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public AuthorizationException(String message) {
        super(message);
    }
}
