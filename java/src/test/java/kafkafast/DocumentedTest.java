package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.io.InputStream;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import javax.tools.JavaCompiler;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;

/** The programs of the documentation, as they stand there; to run, only the port (and the group's home) is another. */
public class DocumentedTest {
    private Path dir;

    @Before
    public void makeDirectory() throws Exception {
        dir = Files.createTempDirectory("kafka-fast-documented");
    }

    @After
    public void removeDirectory() throws Exception {
        try (Stream<Path> files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }

    private static String source(String name) throws Exception {
        try (InputStream in = DocumentedTest.class.getResourceAsStream("/documented/" + name + ".java")) {
            assertNotNull(name, in);
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private void compile(String name, String source) throws Exception {
        Path file = dir.resolve(name + ".java");
        Files.write(file, Tools.utf8(source));
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        StringWriter messages = new StringWriter();
        try (StandardJavaFileManager files = compiler.getStandardFileManager(null, null, null)) {
            List<String> options = List.of("-classpath", System.getProperty("java.class.path"), "-d", dir.toString());
            assertTrue(messages.toString(), compiler.getTask(messages, files, null, options, null, files.getJavaFileObjects(file.toFile())).call());
        }
        assertEquals("", messages.toString());
    }

    /** Compiles it as it stands, then runs it with our port. */
    private Tools.Child run(String name, String... replacements) throws Exception {
        String source = source(name);
        compile(name, source);
        BrokerConf broker = Tools.broker();
        source = source.replace("(\"\", 9092)", "(\"" + broker.getHost() + "\", " + broker.getPort() + ")");
        for (int i = 0; i < replacements.length; i += 2) {
            assertTrue(replacements[i], source.contains(replacements[i]));
            source = source.replace(replacements[i], replacements[i + 1]);
        }
        compile(name, source);
        String classPath = dir + File.pathSeparator + System.getProperty("java.class.path");
        return new Tools.Child(Tools.Child.command(Collections.emptyList(), name, classPath), null);
    }

    @Test
    public void theProducerProgramEndsByItselfAndItsMessageIsThere() throws Exception {
        String topic = Tools.topic("my-topic");
        Tools.Child child = run("SendProgram", "my-topic", topic);
        child.assertExit(0, 30);
        try (Consumer consumer = Tools.earliest(Tools.topic("g"), topic)) {
            Message m = consumer.readMsg(20_000);
            assertNotNull(m);
            assertEquals("Hi", m.text());
        }
    }

    @Test
    public void theConsumerProgramReads() throws Exception {
        String topic = Tools.topic("my-topic");
        try (Producer producer = Producer.connect(Tools.broker())) {
            producer.sendText(topic, "before");
            producer.flush();
            Tools.Child child = run("ReadProgram", "my-topic", topic, "new RedisConf(\"\", 6379, \"test-group\")", "kafkafast.RedisConf.embedded(\"test-group\")",
                "topic1", Tools.topic("topic1"), "topic2", Tools.topic("topic2"));
            try {
                Tools.await("it to connect", 30_000, () -> child.output().contains("CONNECTED"));
                producer.sendText(topic, "one");
                producer.flush();
                Tools.await("the first message", 30_000, () -> child.output().contains("READ " + topic + "/0@1 one"));
                producer.sendText(topic, "two");
                Tools.await("the loop", 30_000, () -> child.output().contains("LOOPED two"));
                child.terminate();
                child.assertExit(143, 10);
            } finally {
                child.process.destroyForcibly();
            }
        }
    }

    /** The same to the letter, but for ports: its group lives in Redis, and what it has handled is known when it starts again. */
    @Test
    public void theConsumerProgramReadsInAGroupInRedis() throws Exception {
        RedisConf redis = Tools.redis("test-group");
        String[] port = {"(\"\", 6379, ", "(\"" + redis.getHost() + "\", " + redis.getPort() + ", "};
        try (Producer producer = Producer.connect(Tools.broker())) {
            Tools.Child first = run("ReadProgram", port);
            try {
                Tools.await("it to connect", 30_000, () -> first.output().contains("CONNECTED"));
                // Another run against these servers may have left something in this topic, which comes before ours.
                String one = sent(producer, "one");
                Tools.await("the first message", 30_000, () -> first.output().contains("READ my-topic/0@") && first.output().contains(one));
                loopsAndIsTerminated(first, producer);
            } finally {
                first.process.destroyForcibly();
            }
            String three = sent(producer, "three");
            Tools.Child second = run("ReadProgram", port);
            try {
                Tools.await("what came while nobody read, and nothing before it", 30_000,
                    () -> second.output().matches("(?s).*READ my-topic/0@\\d+ " + three + "\n.*"));
                loopsAndIsTerminated(second, producer);
            } finally {
                second.process.destroyForcibly();
            }
        }
    }

    private static String sent(Producer producer, String what) {
        String text = Tools.topic(what);
        producer.sendText("my-topic", text);
        producer.flush();
        return text;
    }

    /** Ends the program when it has handled all: it asks for the next message a moment after it has printed one. */
    private static void loopsAndIsTerminated(Tools.Child child, Producer producer) throws Exception {
        String last = sent(producer, "last");
        Tools.await("the loop", 30_000, () -> child.output().contains("LOOPED " + last));
        Thread.sleep(500);
        child.terminate();
        child.assertExit(143, 10);
    }

    @Test
    public void settingsOfTheDocumentation() throws Exception {
        Tools.Child child = run("SetUp");
        child.assertExit(0, 30);
        assertTrue(child.output(), child.output().contains("SENT snappy"));
        assertTrue(child.output(), child.output().contains("setKafkaVersion has no effect: versions are negotiated"));
        assertTrue(child.output(), child.output().contains("setJaas has no effect"));
    }
}
