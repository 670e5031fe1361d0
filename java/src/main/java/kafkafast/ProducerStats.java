package kafkafast;

/** What a producer has done so far: one immutable look at counters that move on. */
public final class ProducerStats {
    /** Order and number of the fields at the boundary. */
    private static final int FIELDS = 14;

    private final long[] values;

    private ProducerStats(long[] values) {
        this.values = values;
    }

    static ProducerStats read(long handle) {
        long[] values = new long[FIELDS];
        NativeProducer.stats(handle, values);
        return new ProducerStats(values);
    }

    /**
     * Records taken by send calls, those in open batches not counted yet.
     *
     * @return a number that only grows
     */
    public long getRecords() {
        return values[0];
    }

    /**
     * Bytes of those records in batches before compression.
     *
     * @return a number that only grows
     */
    public long getBytes() {
        return values[1];
    }

    /**
     * Batches.
     *
     * @return a number that only grows
     */
    public long getBatches() {
        return values[2];
    }

    /**
     * Records that brokers acknowledged; with {@code acks=0} those written to a socket.
     *
     * @return a number that only grows
     */
    public long getDeliveredRecords() {
        return values[3];
    }

    /**
     * Records that failed for good.
     *
     * @return a number that only grows
     */
    public long getFailedRecords() {
        return values[4];
    }

    /**
     * Records dropped for their size because {@code batch-fail-message-over-limit} is false.
     *
     * @return a number that only grows
     */
    public long getDroppedRecords() {
        return values[5];
    }

    /**
     * Produce requests sent.
     *
     * @return a number that only grows
     */
    public long getRequests() {
        return values[6];
    }

    /**
     * Bytes of batches in those requests, after compression.
     *
     * @return a number that only grows
     */
    public long getSentBytes() {
        return values[7];
    }

    /**
     * Batches that went back to be sent again.
     *
     * @return a number that only grows
     */
    public long getRetries() {
        return values[8];
    }

    /**
     * Failed requests, and partitions refused in an answer.
     *
     * @return a number that only grows
     */
    public long getErrors() {
        return values[9];
    }

    /**
     * Bytes of the buffer in use now.
     *
     * @return at most {@link #getBufferMemory()}
     */
    public long getBufferedBytes() {
        return values[10];
    }

    /**
     * The size of the buffer, the setting buffer.memory.
     *
     * @return bytes
     */
    public long getBufferMemory() {
        return values[11];
    }

    /**
     * Calls that wait for room now.
     *
     * @return a number of threads
     */
    public long getWaitingCalls() {
        return values[12];
    }

    /**
     * Records in sealed batches that are neither acknowledged nor failed.
     *
     * @return a number of records
     */
    public long getWaitingRecords() {
        return values[13];
    }

    @Override
    public String toString() {
        return "ProducerStats(records=" + getRecords() + ", delivered=" + getDeliveredRecords() + ", failed=" + getFailedRecords()
            + ", batches=" + getBatches() + ", requests=" + getRequests() + ", retries=" + getRetries() + ", errors=" + getErrors()
            + ", buffered=" + getBufferedBytes() + "/" + getBufferMemory() + ")";
    }
}
