package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

@ExtendWith(ResultLines.class)
class SecurityTest {
    private static final String PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule";
    private static final String SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule";

    /** Options with which a client logs in. */
    private static Map<String, Object> login(String protocol, String mechanism, String user, String password) {
        String module = mechanism.equals("PLAIN") ? PLAIN : SCRAM;
        return Map.of(
                "security.protocol", protocol,
                "sasl.mechanism", mechanism,
                "sasl.jaas.config", String.format("%s required username=\"%s\" password=\"%s\";", module, user, password));
    }

    private static Admin admin(String address, Map<String, Object> login) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", address));
        all.putAll(login);
        return Admin.create(all);
    }

    private static void sendAndRead(String address, String topic, Map<String, Object> login) throws Exception {
        try (var producer = Kit.producer(address, login)) {
            Kit.get(producer.send(new ProducerRecord<>(topic, "x")));
        }
        Map<String, Object> options = new HashMap<>(login);
        options.put("group.id", Kit.unique("secure"));
        try (var consumer = Kit.consumer(address, options)) {
            consumer.subscribe(List.of(topic));
            assertEquals("x", Kit.take(consumer, 1).get(0).value());
        }
    }

    @Test
    @Shows("SASL PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512: the right password is let in, a wrong one is not")
    void passwords(@TempDir Path folder) throws Exception {
        try (Broker broker = new Broker(folder)) {
            Tools.wiremill(broker.admin(), "user", "add", "alice", "--password", "correct horse");
            for (String mechanism : List.of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")) {
                Map<String, Object> right = login("SASL_PLAINTEXT", mechanism, "alice", "correct horse");
                String topic = Kit.unique("secure");
                try (Admin admin = admin(broker.kafka(), right)) {
                    Kit.get(admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
                }
                sendAndRead(broker.kafka(), topic, right);
                for (String[] bad : new String[][] {{"alice", "battery staple"}, {"mallory", "correct horse"}}) {
                    try (Admin admin = admin(broker.kafka(), login("SASL_PLAINTEXT", mechanism, bad[0], bad[1]))) {
                        assertThrows(SaslAuthenticationException.class, () -> Kit.get(admin.listTopics().names()), mechanism);
                    }
                }
            }
        }
    }

    @Test
    @Shows("TLS with SASL SCRAM-SHA-512")
    void tls(@TempDir Path folder) throws Exception {
        Certificate certificate = Certificate.make(folder);
        try (Broker broker = new Broker(folder, "--tls-cert", "kafka=" + certificate.certificate(), "--tls-key", "kafka=" + certificate.key())) {
            Tools.wiremill(broker.admin(), "user", "add", "alice", "--password", "correct horse");
            Map<String, Object> secure = new HashMap<>(login("SASL_SSL", "SCRAM-SHA-512", "alice", "correct horse"));
            secure.put("ssl.truststore.type", "PEM");
            secure.put("ssl.truststore.location", certificate.certificate().toString());
            String topic = Kit.unique("tls");
            try (Admin admin = admin(broker.kafka(), secure)) {
                Kit.get(admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
            }
            sendAndRead(broker.kafka(), topic, secure);
        }
    }

    @Test
    @Shows("SCRAM credentials are set, described without secrets, used at once, and removed")
    void scramCredentials(@TempDir Path folder) throws Exception {
        try (Broker broker = new Broker(folder)) {
            Tools.wiremill(broker.admin(), "user", "add", "root", "--password", "correct horse", "--allow", "admin:*");
            Map<String, Object> root = login("SASL_PLAINTEXT", "SCRAM-SHA-512", "root", "correct horse");
            try (Admin admin = admin(broker.kafka(), root)) {
                ScramCredentialInfo wanted = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8_192);
                Kit.get(admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion("bob", wanted, "a long password"))).all());
                var described = Kit.get(admin.describeUserScramCredentials(List.of("bob")).all()).get("bob");
                assertEquals(List.of(wanted), described.credentialInfos());
            }
            try (Admin admin = admin(broker.kafka(), login("SASL_PLAINTEXT", "SCRAM-SHA-256", "bob", "a long password"))) {
                Kit.get(admin.describeCluster().clusterId());
            }
        }
    }

    @Test
    @Shows("a user may do what its permissions say, and nothing else")
    void permissions(@TempDir Path folder) throws Exception {
        try (Broker broker = new Broker(folder)) {
            String topic = Kit.newTopic(broker.kafka(), "mine", 1);
            String other = Kit.newTopic(broker.kafka(), "other", 1);
            Tools.wiremill(broker.admin(), "user", "add", "root", "--password", "correct horse");
            Tools.wiremill(broker.admin(), "user", "add", "writer", "--password", "correct horse", "--as", "root:correct horse", "--allow", "write:mine-*", "--allow", "read:mine-*");
            Map<String, Object> writer = login("SASL_PLAINTEXT", "PLAIN", "writer", "correct horse");
            try (var producer = Kit.producer(broker.kafka(), writer)) {
                Kit.get(producer.send(new ProducerRecord<>(topic, "x")));
                assertThrows(TopicAuthorizationException.class, () -> Kit.get(producer.send(new ProducerRecord<>(other, "x"))));
            }
            try (Admin admin = admin(broker.kafka(), writer)) {
                assertEquals(Set.of(topic), Kit.get(admin.listTopics().names()));
                assertThrows(TopicAuthorizationException.class, () -> Kit.get(admin.deleteTopics(List.of(topic)).all()));
            }
        }
    }
}
