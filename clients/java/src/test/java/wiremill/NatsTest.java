package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.nats.client.AuthenticationException;
import io.nats.client.Connection;
import io.nats.client.ConnectionListener.Events;
import io.nats.client.ErrorListener;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.Options;
import io.nats.client.Subscription;
import io.nats.client.impl.Headers;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** What programs written with jnats see. */
@ExtendWith(ResultLines.class)
class NatsTest {
    private static final String CLIENT = "jnats";
    private static final String PASSWORD = "correct horse";

    private static Options.Builder options(String url) {
        return new Options.Builder().server(url).maxReconnects(-1).reconnectWait(Duration.ofMillis(20)).errorListener(new ErrorListener() {});
    }

    private static Connection dial() throws Exception {
        return Nats.connect(options(Kit.nats()).build());
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(Message message) {
        return new String(message.getData(), StandardCharsets.UTF_8);
    }

    private static void publish(Connection connection, String subject, List<String> bodies) throws Exception {
        for (String body : bodies) {
            connection.publish(subject, bytes(body));
        }
        connection.flush(Kit.PATIENCE);
    }

    private static List<String> take(Subscription subscription, int count) throws Exception {
        List<String> bodies = new ArrayList<>();
        while (bodies.size() < count) {
            Message message = subscription.nextMessage(Kit.PATIENCE);
            assertTrue(message != null, "only " + bodies + " came");
            bodies.add(text(message));
        }
        return bodies;
    }

    private static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(String::valueOf).toList();
    }

    private static List<String> sorted(List<String> numbers) {
        return numbers.stream().map(Integer::valueOf).sorted().map(String::valueOf).toList();
    }

    @Test
    @Shows(value = "a publish reaches every subscription that matches, with wildcards", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void wildcards() throws Exception {
        try (Connection connection = dial()) {
            String root = Kit.unique("wild");
            Subscription one = connection.subscribe(root + ".*");
            Subscription rest = connection.subscribe(root + ".>");
            Subscription exact = connection.subscribe(root + ".a");
            publish(connection, root + ".a", List.of("1"));
            publish(connection, root + ".a.b", List.of("2"));
            publish(connection, root + ".a", List.of("3"));
            assertEquals(List.of("1", "3"), take(one, 2));
            assertEquals(List.of("1", "2", "3"), take(rest, 3));
            assertEquals(List.of("1", "3"), take(exact, 2));
        }
    }

    @Test
    @Shows(value = "a message that nobody listens to is gone", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void nobodyListens() throws Exception {
        try (Connection connection = dial()) {
            String subject = Kit.unique("gone");
            publish(connection, subject, List.of("early"));
            Subscription subscription = connection.subscribe(subject);
            publish(connection, subject, List.of("late"));
            assertEquals(List.of("late"), take(subscription, 1));
        }
    }

    @Test
    @Shows(value = "a queue group gives each message to one of its members", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void queueGroup() throws Exception {
        String subject = Kit.unique("orders") + ".created";
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        try (Connection first = dial(); Connection second = dial(); Connection publisher = dial()) {
            for (Connection member : List.of(first, second)) {
                member.createDispatcher(message -> seen.add(text(message))).subscribe(subject, "order-processors");
                member.flush(Kit.PATIENCE);
            }
            publish(publisher, subject, numbers(1000));
            Kit.eventually("every message was taken", () -> seen.size() >= 1000);
            assertEquals(numbers(1000), sorted(List.copyOf(seen)));
            assertTrue(first.getStatistics().getInMsgs() > 0 && second.getStatistics().getInMsgs() > 0);
        }
    }

    @Test
    @Shows(value = "a subscription ends after as many messages as it asked for", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void autoUnsubscribe() throws Exception {
        try (Connection connection = dial()) {
            String subject = Kit.unique("few");
            Subscription subscription = connection.subscribe(subject);
            subscription.unsubscribe(3);
            publish(connection, subject, numbers(5));
            assertEquals(List.of("0", "1", "2"), take(subscription, 3));
            assertNobodyServes(connection, subject);
        }
    }

    private static void assertNobodyServes(Connection connection, String subject) {
        CompletableFuture<Message> answer = connection.request(subject, bytes("?"));
        Exception error = assertThrows(Exception.class, () -> answer.get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS));
        assertTrue(error instanceof CancellationException || error instanceof ExecutionException, error.toString());
    }

    @Test
    @Shows(value = "headers travel with a message", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void headers() throws Exception {
        try (Connection connection = dial()) {
            String subject = Kit.unique("headers");
            Subscription subscription = connection.subscribe(subject);
            connection.publish(subject, new Headers().add("Trace-Id", "a", "b"), bytes("body"));
            Message message = subscription.nextMessage(Kit.PATIENCE);
            assertEquals(List.of("a", "b"), message.getHeaders().get("Trace-Id"));
            assertEquals("body", text(message));
        }
    }

    @Test
    @Shows(value = "a client that asks for no echo does not get its own messages", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void noEcho() throws Exception {
        try (Connection quiet = Nats.connect(options(Kit.nats()).noEcho().build()); Connection other = dial()) {
            String subject = Kit.unique("echo");
            Subscription own = quiet.subscribe(subject);
            publish(quiet, subject, List.of("mine"));
            publish(other, subject, List.of("theirs"));
            assertEquals(List.of("theirs"), take(own, 1));
        }
    }

    @Test
    @Shows(value = "messages up to max_payload pass, and a longer one is an error", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void longMessages() throws Exception {
        try (Connection connection = dial()) {
            String subject = Kit.unique("long");
            int most = (int) connection.getMaxPayload();
            assertEquals(1 << 20, most);
            Subscription subscription = connection.subscribe(subject);
            connection.publish(subject, new byte[most]);
            assertEquals(most, subscription.nextMessage(Kit.PATIENCE).getData().length);
            assertThrows(IllegalArgumentException.class, () -> connection.publish(subject, new byte[most + 1]));
        }
    }

    @Test
    @Shows(value = "a request is answered by one of several instances of a service", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void requests() throws Exception {
        String subject = Kit.unique("api") + ".users.get";
        try (Connection first = dial(); Connection second = dial(); Connection asker = dial()) {
            for (Connection instance : List.of(first, second)) {
                instance.createDispatcher(request -> instance.publish(request.getReplyTo(), bytes("user " + text(request))))
                        .subscribe(subject, "users");
                instance.flush(Kit.PATIENCE);
            }
            List<CompletableFuture<Message>> answers = numbers(200).stream().map(body -> asker.request(subject, bytes(body))).toList();
            for (int n = 0; n < answers.size(); n++) {
                assertEquals("user " + n, text(answers.get(n).get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS)));
            }
        }
    }

    @Test
    @Shows(value = "a request that nobody serves fails at once", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void noResponder() throws Exception {
        try (Connection connection = dial()) {
            assertNobodyServes(connection, Kit.unique("nobody"));
        }
    }

    @Test
    @Shows(value = "draining a subscriber loses and repeats nothing", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void drain() throws Exception {
        String subject = Kit.unique("drain");
        int count = 10_000;
        List<String> seen = Collections.synchronizedList(new ArrayList<>());
        try (Connection leaving = dial(); Connection staying = dial(); Connection publisher = dial()) {
            for (Connection member : List.of(leaving, staying)) {
                member.createDispatcher(message -> seen.add(text(message))).subscribe(subject, "workers");
                member.flush(Kit.PATIENCE);
            }
            publish(publisher, subject, numbers(count).subList(0, count / 2));
            CompletableFuture<Boolean> drained = leaving.drain(Kit.PATIENCE);
            publish(publisher, subject, numbers(count).subList(count / 2, count));
            assertTrue(drained.get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS));
            Kit.eventually("every message was taken", () -> seen.size() >= count);
            assertEquals(numbers(count), sorted(List.copyOf(seen)));
        }
    }

    @Test
    @Shows(value = "clients come back after a restart, with their subscriptions", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void reconnect(@TempDir Path folder) throws Exception {
        CountDownLatch back = new CountDownLatch(1);
        try (Broker broker = new Broker(folder)) {
            Options options = options(broker.nats()).connectionListener((connection, event) -> {
                if (event == Events.RESUBSCRIBED) {
                    back.countDown();
                }
            }).build();
            try (Connection connection = Nats.connect(options)) {
                Subscription subscription = connection.subscribe("restart.>");
                connection.flush(Kit.PATIENCE);
                broker.kill();
                broker.start();
                assertTrue(back.await(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS));
                publish(connection, "restart.a", List.of("after"));
                assertEquals(List.of("after"), take(subscription, 1));
            }
        }
    }

    @Test
    @Shows(value = "users are let in by name and password, and nobody else", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void users(@TempDir Path folder) throws Exception {
        try (Broker broker = new Broker(folder)) {
            Tools.wiremill(broker.admin(), "user", "add", "alice", "--password", PASSWORD);
            try (Connection connection = Nats.connect(options(broker.nats()).userInfo("alice", PASSWORD).build())) {
                Subscription subscription = connection.subscribe("a");
                publish(connection, "a", List.of("1"));
                assertEquals(List.of("1"), take(subscription, 1));
            }
            for (Options.Builder wrong : List.of(
                    options(broker.nats()).userInfo("alice", "wrong"), options(broker.nats()).userInfo("bob", PASSWORD),
                    options(broker.nats()).token("x".toCharArray()), options(broker.nats()))) {
                assertThrows(AuthenticationException.class, () -> Nats.connect(wrong.build()));
            }
        }
    }

    @Test
    @Shows(value = "what a user may not publish or subscribe to is told as a permissions violation", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void permissions(@TempDir Path folder) throws Exception {
        BlockingQueue<String> errors = new LinkedBlockingQueue<>();
        ErrorListener listener = new ErrorListener() {
            @Override
            public void errorOccurred(Connection connection, String error) {
                errors.add(error);
            }
        };
        try (Broker broker = new Broker(folder)) {
            Tools.wiremill(broker.admin(), "user", "add", "root", "--password", PASSWORD);
            Tools.wiremill(broker.admin(), "user", "add", "tenant-7", "--password", PASSWORD, "--as", "root:" + PASSWORD,
                    "--allow", "write:tenants.7.events.*", "--allow", "read:_INBOX.*");
            Options options = options(broker.nats()).userInfo("tenant-7", PASSWORD).errorListener(listener).build();
            try (Connection connection = Nats.connect(options)) {
                publish(connection, "tenants.7.events.a", List.of("allowed"));
                publish(connection, "tenants.8.events.a", List.of("forbidden"));
                assertEquals("Permissions Violation for Publish to \"tenants.8.events.a\"", errors.poll(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS));
                connection.subscribe("tenants.7.events.>");
                connection.flush(Kit.PATIENCE);
                assertEquals("Permissions Violation for Subscription to \"tenants.7.events.>\"", errors.poll(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS));
                assertEquals(Connection.Status.CONNECTED, connection.getStatus());
            }
        }
    }

    @Test
    @Shows(value = "TLS begins after the first line, and the certificate is verified", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void tls(@TempDir Path folder) throws Exception {
        Certificate certificate = Certificate.make(folder);
        try (Broker broker = new Broker(folder, "--tls-cert", "nats=" + certificate.certificate(), "--tls-key", "nats=" + certificate.key())) {
            String url = broker.nats().replace("nats:", "tls:");
            try (Connection connection = Nats.connect(options(url).sslContext(trusting(certificate.certificate())).build())) {
                Subscription subscription = connection.subscribe("a");
                publish(connection, "a", numbers(1000));
                assertEquals(numbers(1000), take(subscription, 1000));
                assertTrue(connection.getServerInfo().isTLSRequired());
            }
            assertThrows(Exception.class, () -> Nats.connect(options(url).sslContext(SSLContext.getDefault()).build()));
        }
    }

    private static SSLContext trusting(Path certificate) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream file = Files.newInputStream(certificate)) {
            store.setCertificateEntry("broker", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
