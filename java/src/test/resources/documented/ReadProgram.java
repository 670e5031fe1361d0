import kakfa_clj.core.*;

public class ReadProgram {
    public static void main(String[] args) throws Exception {
        Consumer consumer = Consumer.connect(new KafkaConf(), new BrokerConf[]{new BrokerConf("", 9092)}, new RedisConf("", 6379, "test-group"), "my-topic");
        System.out.println("CONNECTED");
        Message msg = consumer.readMsg();
        String topic = msg.getTopic();
        long partition = msg.getPartition();
        long offset = msg.getOffset();
        byte[] bts = msg.getBytes();
        System.out.println("READ " + topic + "/" + partition + "@" + offset + " " + new String(bts, "UTF-8"));
        //Add topics
        consumer.addTopics("topic1", "topic2");
        //Remove topics
        consumer.removeTopics("topic1", "topic2");
        //Iterator: Consumer is Iterable and consumer.iterator() returns a threadsafe iterator
        // that will return true unless the consumer is closed.
        for(Message message : consumer){
            System.out.println("LOOPED " + new String(message.getBytes(), "UTF-8"));
        }
    }
}
