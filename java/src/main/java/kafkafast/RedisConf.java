package kafkafast;

/**
 * Which group a consumer belongs to, and where the group's state lives. {@link #embedded(String)} needs no server: the group lives in this
 * process, shared by all consumers of the process that name it. {@code connect} copies what is set; later changes concern later connects.
 * Not thread safe.
 *
 * <pre>{@code
 * RedisConf group = new RedisConf("redis.example.com", 6379, "my-group").setUser("app").setPassword(secret).setTimeout(2000);
 * }</pre>
 */
public class RedisConf {
    private final String host;
    private final int port;
    private final String groupName;
    private final boolean embedded;
    private String user;
    private String password;
    private int database;
    private long timeout = 1000;
    private boolean mirror = true;
    private int maxActive;

    /**
     * A group whose state lives in Redis, shared by any number of processes.
     *
     * @param host name or address; empty (or null) means localhost
     * @param port TCP port of Redis, 1 to 65535
     * @param groupName name of the group, not empty
     * @throws IllegalArgumentException when the port is out of range, or the group's name is empty, or a text holds the character NUL
     */
    public RedisConf(String host, int port, String groupName) {
        this(text("host", host == null || host.isEmpty() ? "localhost" : host), port, groupName, false);
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
        this.groupName = text("group name", groupName);
        this.embedded = embedded;
    }

    /**
     * A group that lives in this process and needs no Redis. Consumers of one process that name the same group share its work; what was
     * handled is remembered as long as the process lives. (It keeps 1024 such groups; for one more, the group that no consumer has and
     * that was unused for longest is forgotten. When all are in use, {@code connect} fails.) What the setters set has no meaning for it.
     *
     * @param groupName name of the group, not empty
     * @return the configuration
     * @throws IllegalArgumentException when the name is empty or holds the character NUL
     */
    public static RedisConf embedded(String groupName) {
        return new RedisConf("", 0, groupName, true);
    }

    private static String text(String what, String value) {
        if (value.indexOf('\0') >= 0) {
            throw new IllegalArgumentException("The " + what + " of a RedisConf cannot hold the character NUL");
        }
        return value;
    }

    /**
     * The ACL user. Default: none, which is Redis's user {@code default}.
     *
     * @param user its name; null or empty: none
     * @return this
     * @throws IllegalArgumentException when it holds the character NUL
     */
    public RedisConf setUser(String user) {
        this.user = user == null || user.isEmpty() ? null : text("user", user);
        return this;
    }

    /**
     * The password, of the user if one is set. Default: none. There is no getter, and {@link #toString()} does not show it.
     *
     * @param password the password; null or empty: none
     * @return this
     * @throws IllegalArgumentException when it holds the character NUL
     */
    public RedisConf setPassword(String password) {
        this.password = password == null || password.isEmpty() ? null : text("password", password);
        return this;
    }

    /**
     * The number of Redis's database. Default 0.
     *
     * @param database 0 or more; Redis has 16 unless it is told otherwise
     * @return this
     * @throws IllegalArgumentException for a negative number
     */
    public RedisConf setDatabase(int database) {
        if (database < 0) {
            throw new IllegalArgumentException("The database of a RedisConf is 0 or more, got " + database);
        }
        this.database = database;
        return this;
    }

    /**
     * The longest wait for Redis to accept a connection, or to answer. What was said is said again then, on another connection, so it is
     * no limit for how long Redis may be away. Default 1000 ms.
     *
     * @param millis milliseconds, 1 or more
     * @return this
     * @throws IllegalArgumentException for less than 1
     */
    public RedisConf setTimeout(long millis) {
        if (millis < 1) {
            throw new IllegalArgumentException("The timeout of a RedisConf is 1 ms or more, got " + millis);
        }
        this.timeout = millis;
        return this;
    }

    /**
     * Whether positions are committed to Kafka's own group of the same name too (every {@code offset-commit-freq}), where every tool
     * shows them and from where the group is restored when Redis lost its data. Default true. With false, losing Redis's data loses the
     * positions.
     *
     * @param mirror whether they are
     * @return this
     */
    public RedisConf setMirror(boolean mirror) {
        this.mirror = mirror;
        return this;
    }

    /**
     * The size of a connection pool, in older versions. Accepted so that their configurations load, and without meaning: one connection
     * carries everything a consumer says, and {@code connect} logs so. Default 0: not set.
     *
     * @param maxActive any number
     * @return this
     */
    public RedisConf setMaxActive(int maxActive) {
        this.maxActive = maxActive;
        return this;
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

    /**
     * The ACL user.
     *
     * @return its name; null for none
     */
    public String getUser() {
        return user;
    }

    /**
     * The number of Redis's database.
     *
     * @return 0 or more
     */
    public int getDatabase() {
        return database;
    }

    /**
     * The longest wait for Redis.
     *
     * @return milliseconds
     */
    public long getTimeout() {
        return timeout;
    }

    /**
     * Whether positions are committed to Kafka too.
     *
     * @return true unless it was set to false
     */
    public boolean isMirror() {
        return mirror;
    }

    /**
     * What {@link #setMaxActive} was given, without meaning.
     *
     * @return the number; 0 when it was not set
     */
    public int getMaxActive() {
        return maxActive;
    }

    /** All of it for native code, as {@code name NUL value NUL ...}; without a host the group is embedded. */
    String forConnect() {
        StringBuilder pairs = new StringBuilder("group\0").append(groupName).append('\0');
        if (embedded) {
            return pairs.toString();
        }
        pairs.append("host\0").append(host).append("\0port\0").append(port).append("\0database\0").append(database);
        if (user != null) {
            pairs.append("\0user\0").append(user);
        }
        if (password != null) {
            pairs.append("\0password\0").append(password);
        }
        return pairs.append("\0timeout\0").append(timeout).append("\0mirror\0").append(mirror).append('\0').toString();
    }

    /** What is said of these settings when a consumer has taken them. */
    void remarks() {
        if (maxActive != 0) {
            Log.write(Log.INFO, Log.GROUP, "setMaxActive has no effect: one connection to Redis carries everything");
        }
    }

    /**
     * Where the group is.
     *
     * @return host, port, group; neither user nor password
     */
    @Override
    public String toString() {
        return embedded ? "embedded(" + groupName + ")" : (host.indexOf(':') >= 0 ? "[" + host + "]" : host) + ":" + port + "/" + groupName;
    }
}
