package wiremill;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.nats.client.Connection;
import io.nats.client.ConsumerContext;
import io.nats.client.FetchConsumer;
import io.nats.client.JetStream;
import io.nats.client.JetStreamApiException;
import io.nats.client.JetStreamManagement;
import io.nats.client.JetStreamSubscription;
import io.nats.client.KeyValue;
import io.nats.client.Message;
import io.nats.client.MessageConsumer;
import io.nats.client.Nats;
import io.nats.client.ObjectStore;
import io.nats.client.Options;
import io.nats.client.PullSubscribeOptions;
import io.nats.client.PushSubscribeOptions;
import io.nats.client.api.AckPolicy;
import io.nats.client.api.ConsumerConfiguration;
import io.nats.client.api.ConsumerInfo;
import io.nats.client.api.KeyValueConfiguration;
import io.nats.client.api.KeyValueEntry;
import io.nats.client.api.KeyValueWatcher;
import io.nats.client.api.ObjectStoreConfiguration;
import io.nats.client.api.StorageType;
import io.nats.client.api.StreamConfiguration;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** What programs written with jnats see of JetStream. */
@ExtendWith(ResultLines.class)
class JetStreamTest {
    private static final String CLIENT = "jnats";

    private static Connection dial() throws Exception {
        return Nats.connect(new Options.Builder().server(Kit.nats()).build());
    }

    private static String stream(Connection connection) throws Exception {
        String name = Kit.unique("stream");
        connection.jetStreamManagement().addStream(StreamConfiguration.builder().name(name).subjects(name + ".>").build());
        return name;
    }

    private static void put(JetStream js, String subject, int count) throws Exception {
        for (int n = 0; n < count; n++) {
            js.publish(subject, bytes("" + n));
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(Message message) {
        return new String(message.getData(), StandardCharsets.UTF_8);
    }

    private static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(Integer::toString).toList();
    }

    @Test
    @Shows(value = "a durable pull consumer gets messages in order and acknowledges them", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void pull() throws Exception {
        try (Connection connection = dial()) {
            String name = stream(connection);
            put(connection.jetStream(), name + ".a", 10);
            JetStreamManagement management = connection.jetStreamManagement();
            management.addOrUpdateConsumer(name, ConsumerConfiguration.builder().durable("worker").ackPolicy(AckPolicy.Explicit).build());
            List<String> seen = new ArrayList<>();
            try (FetchConsumer fetch = connection.getConsumerContext(name, "worker").fetchMessages(10)) {
                for (Message message = fetch.nextMessage(); message != null; message = fetch.nextMessage()) {
                    seen.add(text(message));
                    message.ackSync(Duration.ofSeconds(5));
                }
            }
            assertEquals(numbers(10), seen);
            ConsumerInfo info = management.getConsumerInfo(name, "worker");
            assertEquals(List.of(0L, 10L, 0L), List.of(info.getNumAckPending(), info.getAckFloor().getStreamSequence(), info.getNumPending()));
        }
    }

    @Test
    @Shows(value = "orders: a stream with limits, a durable consumer, consume with ack and nak, then the older fetch of ten", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void orders() throws Exception {
        try (Connection connection = dial()) {
            String name = Kit.unique("ORDERS");
            StreamConfiguration limits = StreamConfiguration.builder().name(name).subjects(name + ".>").storageType(StorageType.File)
                .maxMessages(1_000_000).maxAge(Duration.ofDays(7)).build();
            StreamConfiguration made = connection.jetStreamManagement().addStream(limits).getConfiguration();
            assertEquals(List.of(1_000_000L, Duration.ofDays(7)), List.of(made.getMaxMsgs(), made.getMaxAge()));
            JetStream js = connection.jetStream();
            put(js, name + ".created", 10);
            js.publish(name + ".deleted", bytes("not for it"));
            ConsumerConfiguration processor = ConsumerConfiguration.builder().durable("order-processor").ackPolicy(AckPolicy.Explicit)
                .ackWait(Duration.ofSeconds(30)).filterSubject(name + ".created").build();
            ConsumerContext consumer = connection.getStreamContext(name).createOrUpdateConsumer(processor);
            BlockingQueue<String> seen = new LinkedBlockingQueue<>();
            try (MessageConsumer running = consumer.consume(message -> {
                boolean isRefused = text(message).equals("3") && message.metaData().deliveredCount() == 1;
                seen.add(text(message) + "/" + message.metaData().deliveredCount());
                if (isRefused) {
                    message.nak();
                } else {
                    message.ack();
                }
            })) {
                List<String> all = new ArrayList<>();
                while (all.size() < 11) {
                    String one = seen.poll(10, TimeUnit.SECONDS);
                    assertNotNull(one, "after " + all);
                    all.add(one);
                }
                Collections.sort(all);
                assertEquals(List.of("0/1", "1/1", "2/1", "3/1", "3/2", "4/1", "5/1", "6/1", "7/1", "8/1", "9/1"), all);
                running.stop();
            }
            put(js, name + ".created", 25);
            JetStreamSubscription older = js.subscribe(null, PullSubscribeOptions.bind(name, "order-processor"));
            for (int count : new int[] {10, 10, 5}) {
                List<Message> batch = older.fetch(10, Duration.ofSeconds(count == 10 ? 10 : 1));
                assertEquals(count, batch.size());
                for (Message message : batch) {
                    message.ackSync(Duration.ofSeconds(5));
                }
            }
            ConsumerInfo info = consumer.getConsumerInfo();
            assertEquals(List.of(0L, 0L), List.of(info.getNumAckPending(), info.getNumPending()));
        }
    }

    @Test
    @Shows(value = "push consumers and ordered ones deliver in order", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void push() throws Exception {
        try (Connection connection = dial()) {
            String name = stream(connection);
            JetStream js = connection.jetStream();
            put(js, name + ".a", 100);
            for (PushSubscribeOptions options : List.of(PushSubscribeOptions.builder().durable("push").build(), PushSubscribeOptions.builder().ordered(true).build())) {
                JetStreamSubscription subscription = js.subscribe(name + ".>", options);
                List<String> seen = new ArrayList<>();
                while (seen.size() < 100) {
                    Message message = subscription.nextMessage(Duration.ofSeconds(10));
                    seen.add(text(message));
                    message.ack();
                }
                assertEquals(numbers(100), seen);
                subscription.unsubscribe();
            }
        }
    }

    @Test
    @Shows(value = "a key-value bucket keeps values, their history and revisions", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void keyValue() throws Exception {
        try (Connection connection = dial()) {
            String bucket = Kit.unique("bucket");
            connection.keyValueManagement().create(KeyValueConfiguration.builder().name(bucket).maxHistoryPerKey(5).build());
            KeyValue kv = connection.keyValue(bucket);
            long first = kv.create("name", bytes("derek"));
            assertThrows(JetStreamApiException.class, () -> kv.create("name", bytes("again")));
            long second = kv.update("name", bytes("rip"), first);
            assertThrows(JetStreamApiException.class, () -> kv.update("name", bytes("old"), first));
            assertEquals(List.of("rip", second), List.of(kv.get("name").getValueAsString(), kv.get("name").getRevision()));
            kv.put("age", "22");
            assertEquals(List.of("derek", "rip"), kv.history("name").stream().map(KeyValueEntry::getValueAsString).toList());
            List<String> keys = new ArrayList<>(kv.keys());
            Collections.sort(keys);
            assertEquals(List.of("age", "name"), keys);
            kv.delete("age");
            assertEquals(null, kv.get("age"));
            kv.purge("name");
        }
    }

    @Test
    @Shows(value = "a watcher sees the present values of a bucket, then every change", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void watch() throws Exception {
        try (Connection connection = dial()) {
            String bucket = Kit.unique("bucket");
            connection.keyValueManagement().create(KeyValueConfiguration.builder().name(bucket).build());
            KeyValue kv = connection.keyValue(bucket);
            kv.put("a.x", "1");
            kv.put("b.x", "2");
            BlockingQueue<String> seen = new LinkedBlockingQueue<>();
            kv.watch("a.*", new KeyValueWatcher() {
                @Override
                public void watch(KeyValueEntry entry) {
                    seen.add(entry.getKey() + " " + entry.getOperation());
                }

                @Override
                public void endOfData() {
                    seen.add("all");
                }
            });
            assertEquals("a.x PUT", seen.poll(10, TimeUnit.SECONDS));
            assertEquals("all", seen.poll(10, TimeUnit.SECONDS));
            kv.put("a.y", "3");
            kv.delete("a.x");
            assertEquals("a.y PUT", seen.poll(10, TimeUnit.SECONDS));
            assertEquals("a.x DELETE", seen.poll(10, TimeUnit.SECONDS));
        }
    }

    @Test
    @Shows(value = "an object store keeps objects in chunks", client = CLIENT, protocol = "NATS", version = "jnats.version")
    void objects() throws Exception {
        try (Connection connection = dial()) {
            String bucket = Kit.unique("objects");
            connection.objectStoreManagement().create(ObjectStoreConfiguration.builder(bucket).build());
            ObjectStore store = connection.objectStore(bucket);
            byte[] body = new byte[400_000];
            for (int at = 0; at < body.length; at++) {
                body[at] = (byte) (at * 31);
            }
            assertEquals(4, store.put("big", body).getChunks());
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            store.get("big", out);
            assertArrayEquals(body, out.toByteArray());
            store.delete("big");
            assertThrows(IllegalArgumentException.class, () -> store.get("big", new ByteArrayOutputStream()));
        }
    }
}
