package kafkafast;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Set;

/**
 * Settings of producers and consumers, by name or by typed setters. Names of the documentation ({@code batch-num-messages}) and of
 * kafka-clients ({@code linger.ms}) are both understood. Each value is checked when it is set; {@code connect} copies all of them, so later
 * changes concern later connects. Not thread safe.
 *
 * <p>{@link #set} returns the configuration and can be chained; the typed setters return nothing, as they always did.
 */
public class KafkaConf {
    /** How batches are compressed. */
    public enum CODEC {
        /** As they are. */
        NONE,
        /** gzip. */
        GZIP,
        /** snappy. */
        SNAPPY,
        /** lz4, at its fast level, the one of kafka-clients' default: {@code compression.lz4.level} makes no difference. */
        LZ4,
        /** zstd. */
        ZSTD
    }

    /** Settings whose value is a text even when it looks like a number. */
    private static final Set<String> TEXTS = Set.of("bootstrap.servers", "client-id", "acks", "codec", "ordering", "sasl.username",
        "ssl.truststore.location", "ssl.keystore.location", "ssl.key.location");

    /** Names that do not say it: private keys, and certificates that may have theirs with them. */
    private static final Set<String> SECRETS = Set.of("ssl.keystore.key", "ssl.key.pem", "ssl.keystore.certificate.chain", "ssl.certificate.pem");

    private final Map<String, String> values = new LinkedHashMap<>();
    private String jaas;
    private String kafkaVersion;

    /** The default settings. */
    public KafkaConf() {
        // Defaults live in native code; here is only what was set.
    }

    /**
     * Settings from a map or from {@link Properties}. Names of kafka-clients that mean nothing here (serializers, {@code max.poll.*}) are
     * accepted and reported once, when a client connects.
     *
     * @param settings names and values; values are read by their text
     * @return the configuration
     * @throws ConfigException for an unknown name, naming the nearest known one, and for a value that cannot be taken
     */
    public static KafkaConf from(Map<?, ?> settings) {
        KafkaConf conf = new KafkaConf();
        if (settings instanceof Properties) {
            // Also those that come from its defaults, which are not among the entries.
            Properties properties = (Properties) settings;
            for (String name : properties.stringPropertyNames()) {
                conf.set(name, properties.getProperty(name));
            }
        }
        settings.forEach((name, value) -> conf.set(String.valueOf(name), value));
        return conf;
    }

    /**
     * Sets one setting.
     *
     * @param name a name of the documentation or of kafka-clients
     * @param value its value, read by its text; not null
     * @return this
     * @throws ConfigException for an unknown name, naming the nearest known one, and for a value that cannot be taken
     */
    public KafkaConf set(String name, Object value) {
        if (name == null || value == null) {
            // Without the value, which may be a password.
            throw new IllegalArgumentException("A setting needs a name and a value, got " + (name == null ? "no name" : name + "=null"));
        }
        String text = value.toString();
        if (name.indexOf('\0') >= 0 || text.indexOf('\0') >= 0) {
            throw new IllegalArgumentException("A setting cannot hold the character NUL: " + name.replace('\0', '?'));
        }
        NativeLoader.ensure();
        NativeConf.check(name + "\0" + text + "\0");
        // A name set again counts from its last place: an alias set in between would win otherwise.
        values.remove(name);
        values.put(name, text);
        return this;
    }

    /**
     * The value in force, set or default; {@code [hidden]} for passwords and keys.
     *
     * @param name a name of the documentation or of kafka-clients
     * @return its text; null for a name that is not known
     */
    public String get(String name) {
        NativeLoader.ensure();
        return NativeConf.get(pairs(), name);
    }

    /**
     * All settings and the values in force; {@code [hidden]} for passwords and keys.
     *
     * @return names of the documentation; values as Long, Boolean or String; unmodifiable
     */
    public Map<String, Object> toMap() {
        NativeLoader.ensure();
        Map<String, Object> all = new LinkedHashMap<>();
        String[] parts = NativeConf.all(pairs()).split("\0", -1);
        for (int i = 0; i + 1 < parts.length; i += 2) {
            all.put(parts[i], typed(parts[i], parts[i + 1]));
        }
        return Collections.unmodifiableMap(all);
    }

    /**
     * The same as {@link #toMap()}.
     *
     * @return all settings and the values in force
     */
    public Map<String, Object> getConf() {
        return toMap();
    }

    private static Object typed(String name, String text) {
        if (TEXTS.contains(name)) {
            return text;
        }
        if (text.equals("true") || text.equals("false")) {
            return Boolean.valueOf(text);
        }
        try {
            return Long.valueOf(text);
        } catch (NumberFormatException e) {
            return text;
        }
    }

    private String pairs() {
        return pairs(values);
    }

    private static String pairs(Map<String, String> values) {
        StringBuilder pairs = new StringBuilder();
        values.forEach((name, value) -> pairs.append(name).append('\0').append(value).append('\0'));
        return pairs.toString();
    }

    /** The settings of a client, brokers included; explicit brokers go before those of bootstrap.servers. */
    String forConnect(String operation, BrokerConf... brokers) {
        NativeLoader.ensure();
        // Read anew for each client: a store may have been renewed.
        String pairs = pairs(Stores.isNeeded(values) ? Stores.inline(values) : values);
        if (brokers != null && brokers.length > 0) {
            StringBuilder list = new StringBuilder();
            for (BrokerConf broker : brokers) {
                if (broker == null) {
                    throw new IllegalArgumentException(operation + ": a BrokerConf must not be null");
                }
                list.append(list.length() == 0 ? "" : ",").append(broker);
            }
            return pairs + "bootstrap.servers\0" + list + "\0";
        }
        if (NativeConf.get(pairs, "bootstrap.servers").isEmpty()) {
            throw new ConfigException(operation + " needs at least one BrokerConf, e.g. new BrokerConf(\"localhost\", 9092)");
        }
        return pairs;
    }

    /** What is said of these settings when a client has taken them. */
    void remarks() {
        if (kafkaVersion != null) {
            Log.write(Log.INFO, Log.NET, "setKafkaVersion has no effect: versions are negotiated with each broker");
        }
        if (jaas != null) {
            Log.write(Log.WARN, Log.NET, "setJaas has no effect: it names a JAAS section, and Kerberos is not supported. For a user and a"
                + " password set sasl.jaas.config, or sasl.mechanism, sasl.username and sasl.password");
        }
    }

    private long number(String name) {
        return Long.parseLong(get(name));
    }

    /**
     * {@code codec}: how batches are compressed. Default NONE. How hard it tries say {@code compression.gzip.level} (1 to 9; -1, the
     * default, is 6) and {@code compression.zstd.level} (-131072 to 22; default 3). A batch that does not shrink is sent as it is.
     *
     * @param codec the codec, not null
     */
    public void setCodec(CODEC codec) {
        set("codec", codec.name().toLowerCase(java.util.Locale.ROOT));
    }

    /**
     * {@code codec}.
     *
     * @return the codec
     */
    public CODEC getCodec() {
        return CODEC.valueOf(get("codec").toUpperCase(java.util.Locale.ROOT));
    }

    /**
     * {@code acks}: replicas that must have a batch before the broker answers. Default 1.
     *
     * @param acks 0 (no answer), 1 (the leader) or -1 (all in-sync replicas, as set("acks", "all"))
     * @throws ConfigException for other numbers
     */
    public void setAcks(int acks) {
        set("acks", acks);
    }

    /**
     * {@code acks}.
     *
     * @return 0, 1, or -1 for all
     */
    public int getAcks() {
        String acks = get("acks");
        return acks.equals("all") ? -1 : Integer.parseInt(acks);
    }

    /**
     * {@code use-earliest}: where a partition without a committed offset starts. Default false: at its end.
     *
     * @param useEarliest true: at its earliest message
     */
    public void setUseEarliest(boolean useEarliest) {
        set("use-earliest", useEarliest);
    }

    /**
     * {@code use-earliest}.
     *
     * @return whether new partitions start at their earliest message
     */
    public boolean isUseEarliest() {
        return Boolean.parseBoolean(get("use-earliest"));
    }

    /**
     * {@code consume-step}: most messages of a work unit. Default 100000.
     *
     * @param messages 1 or more
     */
    public void setConsumeStep(int messages) {
        set("consume-step", messages);
    }

    /**
     * {@code consume-step}.
     *
     * @return most messages of a work unit
     */
    public int getConsumeStep() {
        return (int) number("consume-step");
    }

    /**
     * {@code fetch-timeout}: longest wait for the answer to a fetch. Default 30000.
     *
     * @param millis milliseconds
     */
    public void setFetchTimeout(long millis) {
        set("fetch-timeout", millis);
    }

    /**
     * {@code fetch-timeout}.
     *
     * @return milliseconds
     */
    public long getFetchTimeout() {
        return number("fetch-timeout");
    }

    /**
     * {@code min-bytes}: bytes a broker gathers before it answers a fetch early. Default 1.
     *
     * @param bytes 0 or more
     */
    public void setMinBytes(long bytes) {
        set("min-bytes", bytes);
    }

    /**
     * {@code min-bytes}.
     *
     * @return bytes
     */
    public long getMinBytes() {
        return number("min-bytes");
    }

    /**
     * {@code max-bytes}: most bytes of one fetch answer. Default 100 MB.
     *
     * @param bytes 1024 or more
     */
    public void setMaxBytes(long bytes) {
        set("max-bytes", bytes);
    }

    /**
     * {@code max-bytes}.
     *
     * @return bytes
     */
    public long getMaxBytes() {
        return number("max-bytes");
    }

    /**
     * {@code max-wait-time}: how long a broker may gather data for a fetch. Default 1000.
     *
     * @param millis milliseconds
     */
    public void setMaxWaitTime(long millis) {
        set("max-wait-time", millis);
    }

    /**
     * {@code max-wait-time}.
     *
     * @return milliseconds
     */
    public long getMaxWaitTime() {
        return number("max-wait-time");
    }

    /**
     * {@code batch-num-messages}: messages after which a batch goes. Default 100000.
     *
     * @param messages 1 or more
     */
    public void setBatchNumMessages(int messages) {
        set("batch-num-messages", messages);
    }

    /**
     * {@code batch-num-messages}.
     *
     * @return messages after which a batch goes
     */
    public int getBatchNumMessages() {
        return (int) number("batch-num-messages");
    }

    /**
     * {@code queue-buffering-max-ms}: longest wait for more messages before a batch goes. Unset: adaptive, at most 5 ms.
     *
     * @param millis milliseconds
     */
    public void setQueueBufferingMaxMs(long millis) {
        set("queue-buffering-max-ms", millis);
    }

    /**
     * {@code queue-buffering-max-ms}.
     *
     * @return milliseconds; -1 while unset (adaptive)
     */
    public long getQueueBufferingMaxMs() {
        String text = get("queue-buffering-max-ms");
        return text.equals("adaptive") ? -1 : Long.parseLong(text);
    }

    /**
     * {@code batch-byte-limit}: a message of so many bytes or more is refused; also bounds a produce request. Default 10 MB.
     *
     * @param bytes 1024 or more
     */
    public void setBatchByteLimit(long bytes) {
        set("batch-byte-limit", bytes);
    }

    /**
     * {@code batch-byte-limit}.
     *
     * @return bytes
     */
    public long getBatchByteLimit() {
        return number("batch-byte-limit");
    }

    /**
     * {@code batch-fail-message-over-limit}: whether a message over the limit is an error. Default true.
     *
     * @param fail false: it is logged and dropped
     */
    public void setBatchFailMessageOverLimit(boolean fail) {
        set("batch-fail-message-over-limit", fail);
    }

    /**
     * {@code batch-fail-message-over-limit}.
     *
     * @return whether a message over the limit is an error
     */
    public boolean isBatchFailMessageOverLimit() {
        return Boolean.parseBoolean(get("batch-fail-message-over-limit"));
    }

    /**
     * {@code client-id}: sent with every request; brokers use it in logs and quotas.
     *
     * @param id the name
     */
    public void setClientId(String id) {
        set("client-id", id);
    }

    /**
     * {@code client-id}.
     *
     * @return the name
     */
    public String getClientId() {
        return get("client-id");
    }

    /**
     * {@code offset-commit-freq}: how often handled offsets are committed. Default 5000.
     *
     * @param millis milliseconds
     */
    public void setOffsetCommitFreq(long millis) {
        set("offset-commit-freq", millis);
    }

    /**
     * {@code offset-commit-freq}.
     *
     * @return milliseconds
     */
    public long getOffsetCommitFreq() {
        return number("offset-commit-freq");
    }

    /**
     * {@code metadata-timeout}: longest wait for metadata; also bounds connect. Default 10000.
     *
     * @param millis milliseconds
     */
    public void setMetadataTimeout(long millis) {
        set("metadata-timeout", millis);
    }

    /**
     * {@code metadata-timeout}.
     *
     * @return milliseconds
     */
    public long getMetadataTimeout() {
        return number("metadata-timeout");
    }

    /**
     * {@code buffer.memory}: memory for messages that are not acknowledged yet. Default 64 MB.
     *
     * @param bytes 1 MB or more
     */
    public void setBufferMemory(long bytes) {
        set("buffer.memory", bytes);
    }

    /**
     * {@code buffer.memory}.
     *
     * @return bytes
     */
    public long getBufferMemory() {
        return number("buffer.memory");
    }

    /**
     * {@code max.block.ms}: longest wait of a send for room or metadata. Default 60000.
     *
     * @param millis milliseconds
     */
    public void setMaxBlock(long millis) {
        set("max.block.ms", millis);
    }

    /**
     * {@code max.block.ms}.
     *
     * @return milliseconds
     */
    public long getMaxBlock() {
        return number("max.block.ms");
    }

    /**
     * {@code delivery.timeout.ms}: longest time a message may stay undelivered. Then it fails: its future or callback is told
     * whether it may have been written, and the log says how many. Unset: a message waits for its brokers as long as it takes.
     * Also the time of {@link Producer#close()}, which is 120 s while unset.
     *
     * <p>The time counts from the first message of a batch. A message fails up to an eighth of it (at most 1 s) late, and one that was
     * just sent when its end is known, at most {@code request.timeout.ms} later.
     *
     * @param millis milliseconds, 1 or more
     */
    public void setDeliveryTimeout(long millis) {
        set("delivery.timeout.ms", millis);
    }

    /**
     * {@code delivery.timeout.ms}.
     *
     * @return milliseconds; -1 while unset (no end)
     */
    public long getDeliveryTimeout() {
        String text = get("delivery.timeout.ms");
        return text.equals("none") ? -1 : Long.parseLong(text);
    }

    /**
     * {@code lazy-connect}: whether connect returns without having reached a broker. Default false.
     *
     * @param lazy true for applications that must start without brokers
     */
    public void setLazyConnect(boolean lazy) {
        set("lazy-connect", lazy);
    }

    /**
     * {@code lazy-connect}.
     *
     * @return whether connect returns without having reached a broker
     */
    public boolean isLazyConnect() {
        return Boolean.parseBoolean(get("lazy-connect"));
    }

    /**
     * The JAAS configuration. A text with a login module is {@code sasl.jaas.config}, as in kafka-clients; the name of a JAAS section is
     * accepted without effect (that is Kerberos), and a warning at connect says so.
     *
     * @param jaas {@code CLASS required username="..." password="...";} or a name
     * @throws ConfigException for a login module other than PlainLoginModule and ScramLoginModule, and for one without user or password
     */
    public void setJaas(String jaas) {
        boolean module = jaas != null && jaas.contains("LoginModule");
        if (module) {
            set("sasl.jaas.config", jaas);
        }
        this.jaas = module ? null : jaas;
    }

    /**
     * The JAAS configuration.
     *
     * @return the name that was set; {@code [hidden]} for a login module, whose text holds a password; null when none was set
     */
    public String getJaas() {
        return jaas != null || !values.containsKey("sasl.jaas.config") ? jaas : get("sasl.jaas.config");
    }

    /**
     * Accepted and ignored: versions are negotiated with each broker. One log line says so.
     *
     * @param version any text
     */
    public void setKafkaVersion(String version) {
        kafkaVersion = version;
    }

    /** What was set, without passwords and keys. */
    @Override
    public String toString() {
        StringBuilder text = new StringBuilder("KafkaConf{");
        String separator = "";
        for (Map.Entry<String, String> entry : values.entrySet()) {
            text.append(separator).append(entry.getKey()).append('=').append(isSecret(entry.getKey()) ? "[hidden]" : entry.getValue());
            separator = ", ";
        }
        return text.append('}').toString();
    }

    /** By its name, so that a secret is one also under a name that has no meaning here. */
    private static boolean isSecret(String name) {
        return name.contains("password") || name.contains("jaas") || SECRETS.contains(name);
    }
}
