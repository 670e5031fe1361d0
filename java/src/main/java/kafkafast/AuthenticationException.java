package kafkafast;

/** The broker does not accept who we say we are. */
public class AuthenticationException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public AuthenticationException(String message) {
        super(message);
    }
}
