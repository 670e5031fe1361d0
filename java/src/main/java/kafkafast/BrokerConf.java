package kafkafast;

import java.util.Objects;

/** Where a broker listens. Immutable. */
public class BrokerConf {
    private final String host;
    private final int port;

    /**
     * A broker's address.
     *
     * @param host name or address; empty (or null) means localhost
     * @param port TCP port, 1 to 65535
     * @throws IllegalArgumentException when the port is outside that range
     */
    public BrokerConf(String host, int port) {
        if (port < 1 || port > 65535) {
            throw new IllegalArgumentException("The port of a broker is 1 to 65535, got " + port + " (usual: 9092)");
        }
        this.host = host == null || host.isEmpty() ? "localhost" : host;
        this.port = port;
    }

    /**
     * The host.
     *
     * @return the name as given, localhost for an empty one
     */
    public String getHost() {
        return host;
    }

    /**
     * The port.
     *
     * @return 1 to 65535
     */
    public int getPort() {
        return port;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof BrokerConf && ((BrokerConf) other).host.equals(host) && ((BrokerConf) other).port == port;
    }

    @Override
    public int hashCode() {
        return Objects.hash(host, port);
    }

    @Override
    public String toString() {
        return (host.indexOf(':') >= 0 ? "[" + host + "]" : host) + ":" + port;
    }
}
