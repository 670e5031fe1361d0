package kafkafast;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.File;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;

/** TLS and SASL as Java sees them: stores of Java's own kinds, and secrets that are not shown. */
public class SecurityTest {
    private static final String SECRET = "hunter2-hunter2";

    private Path dir;

    @Before
    public void folder() throws Exception {
        dir = Files.createTempDirectory("kafka-fast-stores");
    }

    @After
    public void empty() throws Exception {
        try (Stream<Path> files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }

    private void keytool(String... args) throws Exception {
        ProcessBuilder builder = new ProcessBuilder(System.getProperty("java.home") + "/bin/keytool");
        builder.command().addAll(Arrays.asList(args));
        File log = dir.resolve("keytool.log").toFile();
        Process process = builder.redirectErrorStream(true).redirectOutput(log).start();
        assertTrue(process.waitFor(60, TimeUnit.SECONDS));
        assertEquals(new String(Files.readAllBytes(log.toPath())), 0, process.exitValue());
    }

    /** A store with a key and its certificate, which names 127.0.0.1. */
    private String keystore(String name, String type) throws Exception {
        String path = dir.resolve(name).toString();
        keytool("-genkeypair", "-alias", "us", "-keyalg", "EC", "-dname", "CN=us", "-ext", "san=dns:localhost,ip:127.0.0.1", "-storetype", type,
            "-keystore", path, "-storepass", SECRET, "-keypass", SECRET);
        return path;
    }

    /** A store with the certificate of another. */
    private String truststore(String name, String type, String keystore) throws Exception {
        String path = dir.resolve(name).toString();
        String certificate = dir.resolve(name + ".pem").toString();
        keytool("-exportcert", "-rfc", "-alias", "us", "-keystore", keystore, "-storepass", SECRET, "-file", certificate);
        keytool("-importcert", "-noprompt", "-alias", "them", "-file", certificate, "-storetype", type, "-keystore", path, "-storepass", SECRET);
        return path;
    }

    @Test
    public void storesOfJavaCrossAsPem() throws Exception {
        for (String type : List.of("PKCS12", "JKS")) {
            String keys = keystore(type + ".keys", type);
            String trust = truststore(type + ".trust", type, keys);
            KafkaConf conf = new KafkaConf().set("security.protocol", "SSL").set("ssl.truststore.location", trust).set("ssl.truststore.password", SECRET)
                .set("ssl.keystore.location", keys).set("ssl.keystore.password", SECRET).set("bootstrap.servers", "localhost:1");
            String crossing = conf.forConnect("test");
            for (String part : List.of("ssl.truststore.certificates\0-----BEGIN CERTIFICATE-----\n", "ssl.keystore.certificate.chain\0-----BEGIN CERTIFICATE",
                "ssl.keystore.key\0-----BEGIN PRIVATE KEY-----\n")) {
                assertTrue(type + " " + part, crossing.contains(part));
            }
            assertFalse(crossing.contains("ssl.truststore.location") || crossing.contains("ssl.keystore.location"));

            ConfigException wrong = assertThrows(ConfigException.class, () -> conf.set("ssl.truststore.password", "wrong-wrong").forConnect("test"));
            assertTrue(wrong.getMessage(), wrong.getMessage().contains("Is ssl.truststore.password right?") && !wrong.getMessage().contains("wrong-wrong"));
        }
    }

    @Test
    public void aStoreThatIsNotThereIsNamedAndOneThatIsNotNeededIsNotOpened() throws Exception {
        String missing = dir.resolve("no-such.jks").toString();
        for (String prefix : List.of("ssl.truststore", "ssl.keystore")) {
            KafkaConf conf = new KafkaConf().set("security.protocol", "SSL").set("bootstrap.servers", "localhost:1")
                .set(prefix + ".location", " " + missing + " ").set(prefix + ".type", " JKS ");
            ConfigException e = assertThrows(ConfigException.class, () -> conf.forConnect("test"));
            assertEquals(prefix + ".location: " + missing + " cannot be opened: there is no such file", e.getMessage());
            // As while TLS is being rolled out, or in a container without the store.
            assertTrue(conf.set("security.protocol", "PLAINTEXT").forConnect("test").contains(missing));
            assertTrue(conf.set("security.protocol", "SASL_PLAINTEXT").forConnect("test").contains(missing));
        }
        String keys = keystore("keys", "PKCS12");
        KafkaConf spaces = new KafkaConf().set("security.protocol", " sasl_ssl ").set("ssl.keystore.location", " " + keys + " ")
            .set("ssl.keystore.type", " PKCS12 ").set("ssl.keystore.password", SECRET).set("bootstrap.servers", "localhost:1");
        assertTrue(spaces.forConnect("test").contains("-----BEGIN PRIVATE KEY-----"));
    }

    @Test
    public void aSecretKeyBeforeThePrivateOneIsPassedOver() throws Exception {
        String path = dir.resolve("mixed").toString();
        keytool("-genseckey", "-alias", "aaa", "-keyalg", "AES", "-keysize", "128", "-storetype", "PKCS12", "-keystore", path, "-storepass", SECRET);
        KafkaConf conf = new KafkaConf().set("security.protocol", "SSL").set("ssl.keystore.location", path).set("ssl.keystore.password", SECRET)
            .set("bootstrap.servers", "localhost:1");
        ConfigException e = assertThrows(ConfigException.class, () -> conf.forConnect("test"));
        assertTrue(e.getMessage(), e.getMessage().endsWith("has no private key"));
        assertEquals(path, keystore("mixed", "PKCS12"));
        assertTrue(conf.forConnect("test").contains("ssl.keystore.key\0-----BEGIN PRIVATE KEY-----\n"));
    }

    private static int freePort() throws Exception {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            return socket.getLocalPort();
        }
    }

    @Test
    public void throughTlsWithStoresOfJava() throws Exception {
        String server = keystore("server", "PKCS12");
        String client = keystore("client", "PKCS12");
        String brokerTrust = truststore("broker-trust", "PKCS12", client);
        int port = freePort();
        String listener = "listener.name.ssl.ssl.";
        String properties = String.join("\n", listener + "client.auth=required", listener + "keystore.type=PKCS12",
            listener + "keystore.location=" + server, listener + "keystore.password=" + SECRET, listener + "key.password=" + SECRET,
            listener + "truststore.type=PKCS12", listener + "truststore.location=" + brokerTrust, listener + "truststore.password=" + SECRET);
        try (OwnBroker broker = new OwnBroker(null, port, properties)) {
            for (String type : List.of("PKCS12", "JKS")) {
                KafkaConf conf = new KafkaConf().set("security.protocol", "SSL").set("ssl.truststore.password", SECRET)
                    .set("ssl.truststore.location", truststore(type + ".trust", type, server)).set("ssl.truststore.type", type)
                    .set("ssl.keystore.location", client).set("ssl.keystore.password", SECRET);
                conf.setUseEarliest(true);
                BrokerConf address = new BrokerConf("127.0.0.1", port);
                String topic = "tls-" + type;
                try (Producer producer = Producer.connect(conf, address)) {
                    producer.sendMsg(topic, Tools.utf8(type));
                }
                try (Consumer consumer = Consumer.connect(conf, new BrokerConf[] {address}, RedisConf.embedded(topic), topic)) {
                    assertArrayEquals(Tools.utf8(type), consumer.readMsg(30_000).getBytes());
                }
                AuthenticationException refused = assertThrows(AuthenticationException.class,
                    () -> Producer.connect(new KafkaConf().set("security.protocol", "SSL").set("ssl.truststore.location", brokerTrust)
                        .set("ssl.truststore.password", SECRET), address));
                assertTrue(refused.getMessage(), refused.getMessage().contains("(issuer CN=us) is not trusted. Add its CA by ssl.truststore.location"));
            }
        }
    }

    @Test
    public void secretsAreNotShown() {
        String jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"app\" password=\"" + SECRET + "\";";
        KafkaConf conf = new KafkaConf().set("security.protocol", "SASL_SSL").set("sasl.mechanism", "SCRAM-SHA-512").set("sasl.username", "app");
        List<String> secrets = List.of("sasl.password", "sasl.jaas.config", "ssl.key.password", "ssl.keystore.password", "ssl.truststore.password",
            "ssl.keystore.key", "ssl.key.pem", "ssl.keystore.certificate.chain", "ssl.certificate.pem");
        for (String name : secrets) {
            conf.set(name, name.equals("sasl.jaas.config") ? jaas : SECRET);
            assertEquals(name, "[hidden]", conf.get(name));
        }
        conf.setJaas(jaas);
        String shown = conf + " " + conf.toMap() + " " + conf.getConf() + " " + conf.getJaas();
        assertFalse(shown, shown.contains(SECRET));
        assertTrue(shown, shown.contains("sasl.username=app") && shown.contains("sasl.password=[hidden]"));
        Map<String, Object> map = conf.toMap();
        assertEquals("[hidden]", map.get("sasl.password"));

        // Nor in exceptions.
        List<Exception> thrown = Stream.<org.junit.function.ThrowingRunnable>of(
            () -> conf.set("sasl.jaas.config", "a.b.Krb5LoginModule required password=" + SECRET + ";"),
            () -> conf.set("sasl.password", "[hidden]"), () -> conf.set("sasl.jaas.config", jaas.replace(";", "")), () -> conf.set(null, SECRET), () -> conf.set("sasl.password", SECRET + "\0"),
            () -> Producer.connect(conf, new BrokerConf("127.0.0.1", 1)))
            .map(act -> assertThrows(Exception.class, act)).collect(Collectors.toList());
        for (Exception e : thrown) {
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                assertFalse(cause.toString(), cause.toString().contains(SECRET));
            }
        }
    }

    @Test
    public void theJaasConfigOfKafkaClientsIsASetting() {
        KafkaConf conf = new KafkaConf();
        conf.setJaas("KafkaClient");
        assertEquals("a name is kept", "KafkaClient", conf.getJaas());
        conf.setJaas("x.PlainLoginModule required username=\"app\" password=\"p\";");
        assertEquals("app", conf.get("sasl.username"));
        assertEquals("[hidden]", conf.getJaas());
        assertNull(new KafkaConf().getJaas());
        assertEquals("PEM", conf.set("ssl.truststore.type", "PEM").get("ssl.truststore.type"));
    }
}
