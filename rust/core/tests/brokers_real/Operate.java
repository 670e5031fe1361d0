import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** Does what kafka-consumer-groups does: --reset-offsets --to-offset N, or --delete-offsets. Arguments: bootstrap, group, topic [, N]. */
public class Operate {
    public static void main(String[] args) throws Exception {
        TopicPartition partition = new TopicPartition(args[2], 0);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            if (args.length > 3) {
                OffsetAndMetadata to = new OffsetAndMetadata(Long.parseLong(args[3]));
                admin.alterConsumerGroupOffsets(args[1], Map.of(partition, to)).all().get();
            } else {
                admin.deleteConsumerGroupOffsets(args[1], Set.of(partition)).all().get();
            }
        }
    }
}
