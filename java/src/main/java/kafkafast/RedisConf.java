package kafkafast;

/**
 * Which group a consumer belongs to, and where the group's state lives. {@link #embedded(String)} needs no server: the group lives in this
 * process, shared by all consumers of the process that name it. Immutable.
 */
public class RedisConf {
    private final String host;
    private final int port;
    private final String groupName;
    private final boolean embedded;

    /**
     * A group whose state lives in Redis, shared by any number of processes. Not there yet: connecting with it throws.
     *
     * @param host name or address; empty (or null) means localhost
     * @param port TCP port of Redis, 1 to 65535
     * @param groupName name of the group, not empty
     * @throws IllegalArgumentException when the port is out of range or the name is empty
     */
    public RedisConf(String host, int port, String groupName) {
        this(host == null || host.isEmpty() ? "localhost" : host, port, groupName, false);
        if (port < 1 || port > 65535) {
            throw new IllegalArgumentException("The port of Redis is 1 to 65535, got " + port + " (usual: 6379)");
        }
    }

    private RedisConf(String host, int port, String groupName, boolean embedded) {
        if (groupName == null || groupName.isEmpty()) {
            throw new IllegalArgumentException("A group needs a name, e.g. RedisConf.embedded(\"my-group\")");
        }
        this.host = host;
        this.port = port;
        this.groupName = groupName;
        this.embedded = embedded;
    }

    /**
     * A group that lives in this process and needs no Redis. Consumers of one process that name the same group share its work; what was
     * handled is remembered as long as the process lives.
     *
     * @param groupName name of the group, not empty
     * @return the configuration
     * @throws IllegalArgumentException when the name is empty
     */
    public static RedisConf embedded(String groupName) {
        return new RedisConf("", 0, groupName, true);
    }

    /**
     * The host of Redis.
     *
     * @return the name as given, localhost for an empty one; empty for an embedded group
     */
    public String getHost() {
        return host;
    }

    /**
     * The port of Redis.
     *
     * @return the port; 0 for an embedded group
     */
    public int getPort() {
        return port;
    }

    /**
     * The group.
     *
     * @return its name
     */
    public String getGroupName() {
        return groupName;
    }

    /**
     * Whether the group lives in this process.
     *
     * @return true for {@link #embedded(String)}
     */
    public boolean isEmbedded() {
        return embedded;
    }

    @Override
    public String toString() {
        return embedded ? "embedded(" + groupName + ")" : host + ":" + port + "/" + groupName;
    }
}
