package kakfa_clj.core;

/** {@link kafkafast.KafkaConf} under the name of the documentation of kafka-clj. */
public class KafkaConf extends kafkafast.KafkaConf {
    /** The default settings. */
    public KafkaConf() {
        super();
    }
}
