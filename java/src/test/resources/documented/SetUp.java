import kakfa_clj.core.*;

public class SetUp {
    public static void main(String[] args) throws Exception {
        KafkaConf conf = new KafkaConf();
        conf.setCodec(KafkaConf.CODEC.SNAPPY);
        conf.setAcks(1);
        conf.setUseEarliest(true);
        conf.setConsumeStep(1000);
        conf.setFetchTimeout(30000);
        conf.setMinBytes(1);
        conf.setMaxBytes(104857600);
        conf.setMaxWaitTime(1000);
        conf.setJaas("KafkaClient");
        conf.setKafkaVersion("0.10.0.0");
        java.util.Map<String, Object> map = conf.getConf();
        Producer producer = Producer.connect(conf, new BrokerConf("", 9092), new BrokerConf("", 9092));
        producer.sendMsg("my-topic", "settings".getBytes("UTF-8")).sendMsg("my-topic", "chained".getBytes("UTF-8"));
        producer.close();
        System.out.println("SENT " + map.get("codec"));
    }
}
