package kakfa_clj.core;

/** {@link kafkafast.RedisConf} under the name of the documentation of kafka-clj. */
public class RedisConf extends kafkafast.RedisConf {
    /**
     * A group whose state lives in Redis.
     *
     * @param host name or address; empty means localhost
     * @param port TCP port of Redis
     * @param groupName name of the group
     */
    public RedisConf(String host, int port, String groupName) {
        super(host, port, groupName);
    }
}
