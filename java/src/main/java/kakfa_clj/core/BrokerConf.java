package kakfa_clj.core;

/** {@link kafkafast.BrokerConf} under the name of the documentation of kafka-clj. */
public class BrokerConf extends kafkafast.BrokerConf {
    /**
     * A broker's address.
     *
     * @param host name or address; empty means localhost
     * @param port TCP port
     */
    public BrokerConf(String host, int port) {
        super(host, port);
    }
}
