package kafkafast;

/** What a consumer has done so far: one immutable look at counters that move on. */
public final class ConsumerStats {
    private static final int FIELDS = 18;

    private final long[] values;

    private ConsumerStats(long[] values) {
        this.values = values;
    }

    static ConsumerStats read(long handle) {
        long[] values = new long[FIELDS];
        NativeConsumer.stats(handle, values);
        return new ConsumerStats(values);
    }

    /**
     * Messages handed to the application, each as often as it was: one that comes again counts again. One that {@code hasNext} keeps for its
     * thread counts, too.
     *
     * @return a number that only grows
     */
    public long getMessages() {
        return values[0];
    }

    /**
     * Work units whose every message was handled.
     *
     * @return a number that only grows
     */
    public long getUnitsDone() {
        return values[1];
    }

    /**
     * Work units handed back unfinished, by choice.
     *
     * @return a number that only grows
     */
    public long getUnitsReleased() {
        return values[2];
    }

    /**
     * Work units that failed and come again.
     *
     * @return a number that only grows
     */
    public long getUnitsFailed() {
        return values[3];
    }

    /**
     * Work units that somebody else got because our lease ran out.
     *
     * @return a number that only grows
     */
    public long getUnitsFenced() {
        return values[4];
    }

    /**
     * Work units given up because a message stayed too long in user code.
     *
     * @return a number that only grows
     */
    public long getUnitsStuck() {
        return values[5];
    }

    /**
     * Messages that brokers deleted before anyone read them.
     *
     * @return a number that only grows
     */
    public long getMessagesLost() {
        return values[6];
    }

    /**
     * Fetch requests answered.
     *
     * @return a number that only grows
     */
    public long getFetches() {
        return values[7];
    }

    /**
     * Bytes of batches fetched.
     *
     * @return a number that only grows
     */
    public long getFetchedBytes() {
        return values[8];
    }

    /**
     * Calls to the group's coordinator.
     *
     * @return a number that only grows
     */
    public long getExchanges() {
        return values[9];
    }

    /**
     * Work units held now.
     *
     * @return a number
     */
    public long getUnitsHeld() {
        return values[10];
    }

    /**
     * Threads that read now.
     *
     * @return a number
     */
    public long getReaders() {
        return values[11];
    }

    /**
     * Bytes held now, fetched and not handled.
     *
     * @return bytes
     */
    public long getPrefetchBytes() {
        return values[12];
    }

    /**
     * Topics that the user may not read (TOPIC_AUTHORIZATION_FAILED): they could not be read when they were tried last. The log says which.
     *
     * @return a number, 0 when all is well
     */
    public long getTopicsDenied() {
        return values[13];
    }

    /**
     * Whether everything fails: many different messages failed in a row and none was handled. Nothing is used up meanwhile; about one message
     * a second is tried until one is handled.
     *
     * @return false when all is well
     */
    public boolean isHandlerFailing() {
        return values[14] != 0;
    }

    /**
     * Partitions that cannot be read yet because their leader, or the group's coordinator, does not answer. They follow by themselves. The log says which.
     *
     * @return a number, 0 when all is well
     */
    public long getPartitionsPending() {
        return values[15];
    }

    /**
     * Work units that were quarantined, by whichever consumer of the group, while this one watched for the group.
     *
     * @return a number that only grows
     */
    public long getUnitsQuarantined() {
        return values[16];
    }

    /**
     * How often so many units of a partition were quarantined that it takes no new work, while this consumer watched for the group.
     *
     * @return a number that only grows, 0 when all is well
     */
    public long getPartitionsBlocked() {
        return values[17];
    }

    @Override
    public String toString() {
        return "ConsumerStats(messages=" + getMessages() + ", unitsDone=" + getUnitsDone() + ", unitsHeld=" + getUnitsHeld() + ", unitsFailed="
            + getUnitsFailed() + ", readers=" + getReaders() + ", prefetchBytes=" + getPrefetchBytes() + ", topicsDenied=" + getTopicsDenied()
            + ", partitionsPending=" + getPartitionsPending() + ")";
    }
}
