/** A producer under test. */
interface Sender extends AutoCloseable {
    void send(byte[] value);

    /** Waits until all that was sent is acknowledged. */
    void flush();

    /** Throws unless exactly so many messages were acknowledged so far and none failed; after a flush. */
    void check(long sent);

    @Override
    void close();

    static Sender of(Options options) {
        return options.isFast() ? new FastSender(options) : new PeerSender(options);
    }
}
