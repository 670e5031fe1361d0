package kafkafast;

/** No broker could be reached, or what answered is not Kafka. Mend the address or start the broker. */
public class UnreachableException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public UnreachableException(String message) {
        super(message);
    }
}
