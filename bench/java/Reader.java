import java.util.function.Consumer;

/** A consumer under test. */
interface Reader extends AutoCloseable {
    /** Goes to the beginning of all partitions, or where there is a new group to be: its beginning. */
    void fromBeginning(int window);

    /** Goes to the end of all partitions; when this returns, what is sent afterwards is read. */
    void fromEnd();

    /** Reads so many messages at least and says how many bytes their values had. */
    long read(int count);

    /** Hands values to the taker until it has had so many. */
    void each(int count, Consumer<byte[]> taker);

    @Override
    void close();

    static Reader of(Options options) {
        return options.isFast() ? new FastReader(options) : new PeerReader(options);
    }
}
