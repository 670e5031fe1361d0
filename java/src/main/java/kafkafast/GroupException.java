package kafkafast;

/** The group refuses this member or has lost its state. */
public class GroupException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public GroupException(String message) {
        super(message);
    }
}
