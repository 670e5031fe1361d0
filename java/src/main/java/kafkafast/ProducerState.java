package kafkafast;

/** The {@link ClientState} of a producer. */
final class ProducerState extends ClientState {
    ProducerState(long handle) {
        super("Producer", handle);
    }

    /** Records in sealed batches that are not acknowledged yet. */
    long waiting() {
        return ProducerStats.read(handle).getWaitingRecords();
    }

    long delivered() {
        return ProducerStats.read(handle).getDeliveredRecords();
    }

    /** Starts to send everything; never throws. */
    Op startFlush(long timeoutMillis) {
        Op op = new Op(null);
        try {
            NativeProducer.flush(handle, op.token, timeoutMillis);
        } catch (RuntimeException e) {
            op.abandon();
            op.fail(13, false, e.getMessage());
        }
        return op;
    }

    @Override
    void nativeClose(long token, long timeoutMillis) {
        NativeProducer.close(handle, token, timeoutMillis);
    }

    @Override
    void nativeRelease() {
        NativeProducer.release(handle);
    }

    @Override
    void wake() {
        // Threads that wait for room look again every 100 ms, and native wakes them when it closes.
    }

    @Override
    void sweep() {
        // Nothing to look after.
    }

    @Override
    void forget() {
        // Nothing is kept here.
    }

    @Override
    int logger() {
        return Log.PRODUCER;
    }
}
