package wiremill;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Where the broker is, names that collide with nobody's, patience, and clients as applications set them up. */
final class Kit {
    /** Far above what a loaded machine needs, far below the limit of the suite. */
    static final Duration PATIENCE = Duration.ofSeconds(60);

    private static final AtomicLong NAMES = new AtomicLong();

    private Kit() {}

    static String need(String name) {
        String value = System.getenv(name);
        if (value == null || value.isEmpty()) {
            throw new AssertionError(name + " is not set: run this suite through `cargo xtask test --only java`");
        }
        return value;
    }

    static String kafka() {
        return need("WIREMILL_KAFKA");
    }

    /** The URL of the listener for the services of AWS. */
    static String aws() {
        return "http://" + need("WIREMILL_AWS");
    }

    static String nats() {
        return "nats://" + need("WIREMILL_NATS");
    }

    /** The URI of the AMQP listener at an address. */
    static String amqp(String address) {
        return "amqp://guest:guest@" + address + "/%2f";
    }

    static String amqp() {
        return amqp(need("WIREMILL_AMQP"));
    }

    /** A name that no other test and no earlier run uses. */
    static String unique(String prefix) {
        return prefix + "-" + System.currentTimeMillis() + "-" + ProcessHandle.current().pid() + "-" + NAMES.incrementAndGet();
    }

    /** Waits until {@code holds} is true, asking again and again. */
    static void eventually(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!holds.call()) {
            if (System.nanoTime() > deadline) {
                throw new AssertionError("waited " + PATIENCE + " in vain: " + what);
            }
            Thread.sleep(20);
        }
    }

    /** The value of an admin call's future; its own error is thrown as it is. */
    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof Exception cause) {
                throw cause;
            }
            throw error;
        }
    }

    static Admin admin(String address) {
        return Admin.create(Map.of("bootstrap.servers", address));
    }

    static String newTopic(String address, String prefix, int partitions) throws Exception {
        String topic = unique(prefix);
        try (Admin admin = admin(address)) {
            get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all());
        }
        return topic;
    }

    static KafkaProducer<String, String> producer(String address, Map<String, Object> options) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", address));
        all.putAll(options);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String address, Map<String, Object> options) {
        Map<String, Object> all = new HashMap<>(Map.of(
                "bootstrap.servers", address,
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false,
                "heartbeat.interval.ms", 200,
                "session.timeout.ms", 20_000,
                "fetch.max.wait.ms", 100));
        all.putAll(options);
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Polls until {@code count} records have come. */
    static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        eventually(count + " records come", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
            return records.size() >= count;
        });
        return records;
    }
}
