import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.resource.*;

/** Kafka's own clients, told what to do by lines: a command, then words. One line answers each. It ends with its input. */
public class Stranger {
    static final List<String> joined = new CopyOnWriteArrayList<>();
    static volatile boolean stay;
    static Thread member;

    public static void main(String[] args) throws Exception {
        // Whatever the machine's language.
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8"));
        Map<String, Object> conf = new HashMap<>();
        conf.put("bootstrap.servers", args[0]);
        try (Admin admin = Admin.create(conf); Scanner lines = new Scanner(System.in)) {
            System.out.println("ready");
            while (lines.hasNextLine()) {
                String[] words = lines.nextLine().split(" ");
                String answer;
                try {
                    answer = answer(admin, args[0], words);
                } catch (Exception e) {
                    answer = "failed " + e;
                }
                System.out.println(answer.replace('\n', ' '));
            }
        }
        System.exit(0);
    }

    static String answer(Admin admin, String bootstrap, String[] words) throws Exception {
        switch (words[0]) {
            case "join":
                return join(bootstrap, words[1], words[2], words[3]);
            case "leave":
                stay = false;
                member.join();
                return "left";
            case "offsets":
                StringBuilder offsets = new StringBuilder();
                new TreeMap<>(byName(admin.listConsumerGroupOffsets(words[1]).partitionsToOffsetAndMetadata().get()))
                    .forEach((partition, offset) -> offsets.append(partition).append('=').append(offset).append(' '));
                return offsets.toString().trim();
            case "groups":
                TreeSet<String> groups = new TreeSet<>();
                for (GroupListing group : admin.listGroups().all().get())
                    groups.add(group.groupId() + ":" + group.groupState().map(Object::toString).orElse("?"));
                return String.join(" ", groups);
            case "forbid":
                ResourceType type = ResourceType.valueOf(words[1]);
                ResourcePattern what = new ResourcePattern(type, words[2], PatternType.LITERAL);
                // Who is not named in the list of a resource that has one is refused.
                AccessControlEntry whom = new AccessControlEntry("User:alice", "*", AclOperation.READ, AclPermissionType.ALLOW);
                admin.createAcls(List.of(new AclBinding(what, whom))).all().get();
                return "forbidden";
            default:
                return "what?";
        }
    }

    static Map<String, String> byName(Map<org.apache.kafka.common.TopicPartition, OffsetAndMetadata> offsets) {
        Map<String, String> byName = new HashMap<>();
        offsets.forEach((partition, offset) -> byName.put(
            partition.toString(), offset.offset() + "/" + offset.leaderEpoch().orElse(-1) + "/" + offset.metadata()));
        return byName;
    }

    /** Joins a group under a protocol, classic, consumer or share, and stays until it is told to leave. */
    static String join(String bootstrap, String protocol, String group, String topic) throws Exception {
        Map<String, Object> conf = new HashMap<>();
        conf.put("bootstrap.servers", bootstrap);
        conf.put("group.id", group);
        conf.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        conf.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        CompletableFuture<String> in = new CompletableFuture<>();
        stay = true;
        member = new Thread(() -> {
            try {
                if (protocol.equals("share")) {
                    try (KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(conf)) {
                        consumer.subscribe(List.of(topic));
                        long since = System.nanoTime();
                        while (stay) {
                            consumer.poll(Duration.ofMillis(100));
                            // It does not say what it is assigned.
                            if (System.nanoTime() - since > 3_000_000_000L) in.complete("joined");
                        }
                    }
                    return;
                }
                conf.put("group.protocol", protocol);
                conf.put("enable.auto.commit", "false");
                try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(conf)) {
                    consumer.subscribe(List.of(topic));
                    while (stay) {
                        consumer.poll(Duration.ofMillis(100));
                        if (!consumer.assignment().isEmpty()) in.complete("joined");
                    }
                }
            } catch (Exception e) {
                in.complete("failed " + e);
            }
        });
        member.start();
        return in.get(30, TimeUnit.SECONDS);
    }
}
