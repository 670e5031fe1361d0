package kafkafast;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;

/**
 * Messages that are held back because they failed too often, or cannot be read; those behind them go on. The longest held back of a partition
 * is tried again every minute, without anybody's doing. Immutable.
 */
public final class Quarantined {
    private final String topic;
    private final int partition;
    private final long from;
    private final long to;
    private final Instant since;

    Quarantined(String topic, int partition, long from, long to, Instant since) {
        this.topic = topic;
        this.partition = partition;
        this.from = from;
        this.to = to;
        this.since = since;
    }

    /** What {@link NativeConsumer#listed} says. */
    static List<Quarantined> parse(String lines) {
        List<Quarantined> units = new ArrayList<>();
        for (String line : lines.split("\n")) {
            String[] of = line.split("\t");
            if (of.length == 5) {
                Instant since = Instant.ofEpochMilli(Long.parseLong(of[4]));
                units.add(new Quarantined(of[0], Integer.parseInt(of[1]), Long.parseLong(of[2]), Long.parseLong(of[3]), since));
            }
        }
        return units;
    }

    /**
     * The topic.
     *
     * @return its name
     */
    public String getTopic() {
        return topic;
    }

    /**
     * The partition.
     *
     * @return its index, from 0
     */
    public int getPartition() {
        return partition;
    }

    /**
     * The first offset.
     *
     * @return an offset: what {@link Consumer#release} takes
     */
    public long getFrom() {
        return from;
    }

    /**
     * The offset behind the last.
     *
     * @return an offset above {@link #getFrom()}
     */
    public long getTo() {
        return to;
    }

    /**
     * Since when they are held back; when they were tried again meanwhile, since that failed.
     *
     * @return a time by this machine's clock
     */
    public Instant getSince() {
        return since;
    }

    @Override
    public String toString() {
        return topic + "/" + partition + "@" + from + (to - from > 1 ? "-" + (to - 1) : "") + " since " + since;
    }
}
