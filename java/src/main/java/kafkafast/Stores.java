package kafkafast;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Paths;
import java.security.GeneralSecurityException;
import java.security.Key;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Truststores and keystores of Java's own kinds (PKCS12, JKS), for native code, which reads PEM. Nothing is decided here: what is in a store
 * crosses as the settings {@code ssl.truststore.certificates}, {@code ssl.keystore.certificate.chain} and {@code ssl.keystore.key}.
 */
final class Stores {
    private static final Base64.Encoder BASE64 = Base64.getMimeEncoder(64, new byte[] {'\n'});

    private Stores() {}

    /** Whether there is TLS: a store of settings without it is not opened, be it there or not. */
    static boolean isNeeded(Map<String, String> settings) {
        String protocol = last(settings, "security.protocol");
        return "SSL".equalsIgnoreCase(protocol) || "SASL_SSL".equalsIgnoreCase(protocol);
    }

    /** The settings with the contents of Java's stores in place of their names; the same when there are none. */
    static Map<String, String> inline(Map<String, String> settings) {
        Map<String, String> all = settings;
        String trust = last(settings, "ssl.truststore.location", "ssl.ca.location");
        if (isOfJava("ssl.truststore", trust, settings)) {
            KeyStore store = load("ssl.truststore", trust, settings);
            all = without(all, "ssl.truststore.location", "ssl.ca.location", "ssl.truststore.type");
            all.put("ssl.truststore.certificates", trusted(trust, store));
        }
        String own = last(settings, "ssl.keystore.location", "ssl.certificate.location");
        if (isOfJava("ssl.keystore", own, settings)) {
            KeyStore store = load("ssl.keystore", own, settings);
            all = without(all, "ssl.keystore.location", "ssl.certificate.location", "ssl.keystore.type");
            identity(own, store, settings, all);
        }
        return all;
    }

    /** What native code takes for the value: without the white space around it. */
    private static String last(Map<String, String> settings, String... names) {
        String found = null;
        for (Map.Entry<String, String> entry : settings.entrySet()) {
            if (java.util.Arrays.asList(names).contains(entry.getKey())) {
                found = entry.getValue();
            }
        }
        return found == null ? null : found.trim();
    }

    private static Map<String, String> without(Map<String, String> settings, String... names) {
        Map<String, String> rest = new LinkedHashMap<>(settings);
        for (String name : names) {
            rest.remove(name);
        }
        return rest;
    }

    /** The type that was set; null for none. */
    private static String type(String prefix, Map<String, String> settings) {
        String type = last(settings, prefix + ".type");
        return type == null || type.isEmpty() ? null : type;
    }

    /**
     * By its first bytes, whatever the type says: a file that is PEM is native code's to judge. So is one that cannot be opened, unless the
     * type says that it is not PEM: native code would ask for another type.
     */
    private static boolean isOfJava(String prefix, String location, Map<String, String> settings) {
        String type = type(prefix, settings);
        if (location == null || location.isEmpty() || "PEM".equalsIgnoreCase(type)) {
            return false;
        }
        try (InputStream in = Files.newInputStream(Paths.get(location))) {
            int first = in.read();
            // JKS and JCEKS begin with a number, PKCS12 is DER.
            return first == 0xfe || first == 0xce || first == 0x30;
        } catch (IOException | RuntimeException e) {
            if (type == null) {
                return false;
            }
            throw unusable(prefix + ".location", location, "cannot be opened: " + reason(e));
        }
    }

    /** Some exceptions of files say nothing but the file's name. */
    private static String reason(Exception e) {
        if (e instanceof NoSuchFileException) {
            return "there is no such file";
        }
        return e instanceof AccessDeniedException ? "this user may not read it" : e.getMessage();
    }

    private static KeyStore load(String prefix, String location, Map<String, String> settings) {
        String type = type(prefix, settings);
        String password = settings.get(prefix + ".password");
        char[] secret = password == null ? null : password.toCharArray();
        try {
            if (type == null) {
                return KeyStore.getInstance(new File(location), secret);
            }
            KeyStore store = KeyStore.getInstance(type);
            try (InputStream in = Files.newInputStream(Paths.get(location))) {
                store.load(in, secret);
            }
            return store;
        } catch (IOException | GeneralSecurityException e) {
            throw unusable(prefix + ".location", location, "cannot be read: " + e.getMessage() + ". Is " + prefix + ".password right?");
        }
    }

    private static ConfigException unusable(String name, String location, String why) {
        return new ConfigException(name + ": " + location + " " + why);
    }

    private static String trusted(String location, KeyStore store) {
        StringBuilder pem = new StringBuilder();
        try {
            for (String alias : Collections.list(store.aliases())) {
                Certificate certificate = store.getCertificate(alias);
                // Entries of other kinds have none.
                if (certificate != null) {
                    pem(pem, "CERTIFICATE", certificate.getEncoded());
                }
            }
        } catch (GeneralSecurityException e) {
            throw unusable("ssl.truststore.location", location, "cannot be used: " + e.getMessage());
        }
        if (pem.length() == 0) {
            throw unusable("ssl.truststore.location", location, "has no certificate, or ssl.truststore.password is missing");
        }
        return pem.toString();
    }

    private static void identity(String location, KeyStore store, Map<String, String> settings, Map<String, String> to) {
        String name = "ssl.keystore.location";
        String password = settings.getOrDefault("ssl.key.password", settings.get("ssl.keystore.password"));
        try {
            for (String alias : Collections.list(store.aliases())) {
                Certificate[] certificates = store.getCertificateChain(alias);
                // A secret key has none, and may have a password of its own.
                if (certificates == null || !store.isKeyEntry(alias)) {
                    continue;
                }
                Key key = store.getKey(alias, password == null ? null : password.toCharArray());
                if (!(key instanceof PrivateKey)) {
                    continue;
                }
                if (key.getEncoded() == null) {
                    throw unusable(name, location, "has a private key that it does not give away (entry " + alias + ")");
                }
                StringBuilder chain = new StringBuilder();
                for (Certificate certificate : certificates) {
                    pem(chain, "CERTIFICATE", certificate.getEncoded());
                }
                StringBuilder secret = new StringBuilder();
                pem(secret, "PRIVATE KEY", key.getEncoded());
                to.put("ssl.keystore.certificate.chain", chain.toString());
                to.put("ssl.keystore.key", secret.toString());
                return;
            }
        } catch (GeneralSecurityException e) {
            throw unusable(name, location, "has a key that cannot be read: " + e.getMessage() + ". Is ssl.key.password right?");
        }
        throw unusable(name, location, "has no private key");
    }

    private static void pem(StringBuilder to, String label, byte[] der) {
        to.append("-----BEGIN ").append(label).append("-----\n").append(BASE64.encodeToString(der)).append("\n-----END ").append(label)
            .append("-----\n");
    }
}
