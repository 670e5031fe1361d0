package kafkafast;

/**
 * The root of this library's exceptions, all unchecked. The class says what kind of thing went wrong; the text says what
 * failed, where, and what to do.
 *
 * <p>Using a closed {@link Producer} or {@link Consumer} is an {@link IllegalStateException}, a null where none is allowed
 * an {@link IllegalArgumentException}: those are defects of a program, not of a cluster.
 */
public class KafkaFastException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** See {@link #isPossiblyWritten()}. */
    private boolean possiblyWritten;

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     */
    public KafkaFastException(String message) {
        super(message);
    }

    /**
     * Made by this library.
     *
     * @param message what failed, where, and what to do
     * @param cause what it comes from, may be null
     */
    public KafkaFastException(String message, Throwable cause) {
        super(message, cause);
    }

    /**
     * For a record that could not be delivered: whether it may be in the log all the same.
     *
     * @return true when the record was sent and its answer is missing, so that sending it again may make a duplicate;
     *         false when it certainly was not written, and for errors that concern no record
     */
    public boolean isPossiblyWritten() {
        return possiblyWritten;
    }

    /** The exception of an error kind; the numbers are those of the Rust enum ErrorKind. Also called by native code. */
    static RuntimeException of(int kind, String text, boolean possiblyWritten) {
        KafkaFastException made = make(kind, text);
        made.possiblyWritten = possiblyWritten;
        return made;
    }

    private static KafkaFastException make(int kind, String text) {
        switch (kind) {
            case 1: return new ConfigException(text);
            case 2: return new UnreachableException(text);
            case 3: return new TimeoutException(text);
            case 4: return new AuthenticationException(text);
            case 5: return new AuthorizationException(text);
            case 6: return new UnknownTopicException(text);
            case 7: return new InvalidTopicException(text);
            case 8: return new RecordTooLargeException(text);
            case 9: return new InvalidRecordException(text);
            case 11: return new ProtocolException(text);
            case 12: return new GroupException(text);
            default: return new KafkaFastException(text);
        }
    }
}
