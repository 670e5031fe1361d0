import kakfa_clj.core.*;

public class SendProgram {
    public static void main(String[] args) throws Exception {
        Producer producer = Producer.connect(new BrokerConf("", 9092));
        producer.sendMsg("my-topic", "Hi".getBytes("UTF-8"));
    }
}
