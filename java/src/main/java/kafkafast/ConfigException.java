package kafkafast;

/** A setting is unknown, malformed, or contradicts another one. Mend the configuration. */
public class ConfigException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public ConfigException(String message) {
        super(message);
    }
}
