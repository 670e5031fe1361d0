package kafkafast;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.junit.Test;

/** Settings: names, checks and texts come from native code; the typed setters and getters meet the same values. */
public class KafkaConfTest {
    private static String refusal(Runnable act) {
        return assertThrows(ConfigException.class, act::run).getMessage();
    }

    @Test
    public void mistakesAreExplained() {
        KafkaConf conf = new KafkaConf();
        assertEquals("Unknown setting \"batch.num.messages\"; did you mean batch-num-messages?", refusal(() -> conf.set("batch.num.messages", 1)));
        assertEquals("acks must be 0, 1 or all, got 2", refusal(() -> conf.setAcks(2)));
        assertEquals("linger.ms: \"5s\" is not a number of milliseconds", refusal(() -> conf.set("linger.ms", "5s")));
        assertEquals("codec: \"br\" is not a codec (none, gzip, snappy, lz4, zstd)", refusal(() -> conf.set("codec", "br")));
        assertEquals("compression.zstd.level: \"23\" is not a level of zstd (-131072 to 22)", refusal(() -> conf.set("compression.zstd.level", 23)));
        assertThrows(IllegalArgumentException.class, () -> conf.set("acks", null));
        assertThrows(IllegalArgumentException.class, () -> conf.set("client-id", "a\0b"));
        assertEquals("a setting that was refused changes nothing", 1, conf.getAcks());
    }

    @Test
    public void setIsFluentAndAliasesAreTheSameSetting() {
        KafkaConf conf = new KafkaConf().set("acks", "all").set("linger.ms", "5").set("compression.type", "snappy");
        assertEquals(-1, conf.getAcks());
        assertEquals(5, conf.getQueueBufferingMaxMs());
        assertEquals(KafkaConf.CODEC.SNAPPY, conf.getCodec());
        conf.set("queue-buffering-max-ms", 7);
        assertEquals("7", conf.get("linger.ms"));
        conf.set("linger.ms", 9);
        assertEquals("the last one counts, under whatever name", 9, conf.getQueueBufferingMaxMs());
        assertNull(conf.get("no-such-setting"));
    }

    @Test
    public void everyTypedSetterIsReadBack() {
        KafkaConf conf = new KafkaConf();
        assertEquals(KafkaConf.CODEC.NONE, conf.getCodec());
        assertEquals(-1, conf.getQueueBufferingMaxMs());
        assertFalse(conf.isUseEarliest());
        for (KafkaConf.CODEC codec : KafkaConf.CODEC.values()) {
            conf.setCodec(codec);
            assertEquals(codec, conf.getCodec());
        }
        for (int acks : new int[] {0, 1, -1}) {
            conf.setAcks(acks);
            assertEquals(acks, conf.getAcks());
        }
        conf.setUseEarliest(true);
        assertTrue(conf.isUseEarliest());
        conf.setConsumeStep(11);
        assertEquals(11, conf.getConsumeStep());
        conf.setFetchTimeout(12);
        assertEquals(12, conf.getFetchTimeout());
        conf.setMinBytes(13);
        assertEquals(13, conf.getMinBytes());
        conf.setMaxBytes(1400);
        assertEquals(1400, conf.getMaxBytes());
        conf.setMaxWaitTime(15);
        assertEquals(15, conf.getMaxWaitTime());
        conf.setBatchNumMessages(16);
        assertEquals(16, conf.getBatchNumMessages());
        conf.setQueueBufferingMaxMs(17);
        assertEquals(17, conf.getQueueBufferingMaxMs());
        conf.setBatchByteLimit(1800);
        assertEquals(1800, conf.getBatchByteLimit());
        conf.setBatchFailMessageOverLimit(false);
        assertFalse(conf.isBatchFailMessageOverLimit());
        conf.setClientId("42");
        assertEquals("42", conf.getClientId());
        conf.setOffsetCommitFreq(20);
        assertEquals(20, conf.getOffsetCommitFreq());
        conf.setMetadataTimeout(21);
        assertEquals(21, conf.getMetadataTimeout());
        conf.setBufferMemory(22 << 20);
        assertEquals(22 << 20, conf.getBufferMemory());
        conf.setMaxBlock(23);
        assertEquals(23, conf.getMaxBlock());
        assertEquals(-1, conf.getDeliveryTimeout());
        conf.setDeliveryTimeout(24);
        assertEquals(24, conf.getDeliveryTimeout());
        conf.setLazyConnect(true);
        assertTrue(conf.isLazyConnect());
        conf.setJaas("x");
        assertEquals("x", conf.getJaas());
        conf.setKafkaVersion("0.10");
    }

    @Test
    public void mapsHaveJavaTypes() {
        KafkaConf conf = new KafkaConf();
        conf.setClientId("7");
        conf.setUseEarliest(true);
        Map<String, Object> map = conf.toMap();
        assertEquals("7", map.get("client-id"));
        assertEquals(true, map.get("use-earliest"));
        assertEquals(100000L, map.get("consume-step"));
        assertEquals("1", map.get("acks"));
        assertEquals(map, conf.getConf());
        assertThrows(UnsupportedOperationException.class, () -> map.put("a", "b"));
    }

    @Test
    public void fromPropertiesAndMaps() {
        Properties defaults = new Properties();
        defaults.setProperty("acks", "all");
        Properties properties = new Properties(defaults);
        properties.setProperty("bootstrap.servers", "a:1,b:2");
        properties.setProperty("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        KafkaConf conf = KafkaConf.from(properties);
        assertEquals("a:1,b:2", conf.get("bootstrap.servers"));
        assertEquals("defaults of Properties count", -1, conf.getAcks());
        Map<String, Object> map = new HashMap<>();
        map.put("fetch.min.bytes", 5);
        assertEquals(5, KafkaConf.from(map).getMinBytes());
        assertTrue(refusal(() -> KafkaConf.from(Map.of("linger.millis", 1))).startsWith("Unknown setting \"linger.millis\""));
    }

    @Test
    public void confObjects() {
        assertEquals("localhost", new BrokerConf("", 9092).getHost());
        assertEquals("localhost:9092", new BrokerConf(null, 9092).toString());
        assertEquals("[::1]:9092", new BrokerConf("::1", 9092).toString());
        assertEquals(new BrokerConf("a", 1), new BrokerConf("a", 1));
        assertThrows(IllegalArgumentException.class, () -> new BrokerConf("a", 0));
        assertThrows(IllegalArgumentException.class, () -> new RedisConf("", 6379, ""));
        assertThrows(IllegalArgumentException.class, () -> RedisConf.embedded(null));
        RedisConf redis = new RedisConf("", 6379, "g");
        assertEquals("localhost:6379/g", redis.toString());
        assertFalse(redis.isEmbedded());
        assertTrue(RedisConf.embedded("g").isEmbedded());
        assertEquals("embedded(g)", RedisConf.embedded("g").toString());
        assertEquals("[::1]:6379/g", new RedisConf("::1", 6379, "g").toString());
        assertThrows(IllegalArgumentException.class, () -> new ProducerRecord<>("t", -1, new byte[0], new byte[0]));
        assertThrows(IllegalArgumentException.class, () -> new ProducerRecord<>(null, new byte[0]));
    }

    @Test
    public void groupsInRedis() {
        RedisConf plain = new RedisConf(null, 6379, "g");
        assertEquals(null, plain.getUser());
        assertEquals(0, plain.getDatabase());
        assertEquals(1000, plain.getTimeout());
        assertTrue(plain.isMirror());
        assertEquals(0, plain.getMaxActive());
        assertEquals("group\0g\0host\0localhost\0port\0" + "6379\0database\0" + "0\0timeout\0" + "1000\0mirror\0true\0", plain.forConnect());
        assertEquals("group\0g\0", RedisConf.embedded("g").setDatabase(3).setPassword("p").forConnect());

        RedisConf all = new RedisConf("r", 1, "g").setUser("app").setPassword("secret").setDatabase(3).setTimeout(2500).setMirror(false).setMaxActive(80);
        assertEquals("app", all.getUser());
        assertEquals(3, all.getDatabase());
        assertEquals(2500, all.getTimeout());
        assertFalse(all.isMirror());
        assertEquals(80, all.getMaxActive());
        assertEquals("group\0g\0host\0r\0port\0" + "1\0database\0" + "3\0user\0app\0password\0secret\0timeout\0" + "2500\0mirror\0false\0", all.forConnect());
        assertEquals("nothing secret is shown", "r:1/g", all.toString());
        assertEquals("as if never set", plain.forConnect(), plain.setUser("").setPassword(null).forConnect());

        assertThrows(IllegalArgumentException.class, () -> plain.setDatabase(-1));
        assertThrows(IllegalArgumentException.class, () -> plain.setTimeout(0));
        assertThrows(IllegalArgumentException.class, () -> plain.setUser("a\0b"));
        assertThrows(IllegalArgumentException.class, () -> plain.setPassword("a\0b"));
        assertThrows(IllegalArgumentException.class, () -> new RedisConf("a\0b", 6379, "g"));
        assertThrows(IllegalArgumentException.class, () -> RedisConf.embedded("a\0b"));
        // The delegate is one of these, setters and all.
        assertEquals("app", new kakfa_clj.core.RedisConf("", 6379, "g").setUser("app").getUser());
    }
}
