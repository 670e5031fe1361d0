package kafkafast;

/** The native library could not be loaded. The text says which file was tried, why it failed, and what to do. */
public class NativeLibraryException extends KafkaFastException {
    private static final long serialVersionUID = 1L;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public NativeLibraryException(String message) {
        super(message);
    }
}
