package wiremill;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.record.TimestampType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(ResultLines.class)
class RecordsTest {
    /** An hour ago: retention goes by the producer's clock, and takes what is a week old. */
    private static final long FIRST_MS = System.currentTimeMillis() - 3_600_000;

    @Test
    @Shows("records come back as sent, compressed with gzip, snappy, lz4 and zstd")
    void everyCodecComesBackAsSent() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "codecs", 1);
        List<String> codecs = List.of("none", "gzip", "snappy", "lz4", "zstd");
        for (String codec : codecs) {
            try (var producer = Kit.producer(Kit.kafka(), Map.of("compression.type", codec, "linger.ms", 20))) {
                for (int n = 0; n < 100; n++) {
                    var record = new ProducerRecord<>(topic, 0, FIRST_MS + n, codec, n % 10 == 9 ? null : codec.repeat(n));
                    record.headers().add("n", new byte[] {0, (byte) n, -1});
                    producer.send(record);
                }
            }
        }
        try (var consumer = Kit.consumer(Kit.kafka(), Map.of())) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            List<ConsumerRecord<String, String>> records = Kit.take(consumer, 500);
            for (int at = 0; at < 500; at++) {
                ConsumerRecord<String, String> record = records.get(at);
                String codec = codecs.get(at / 100);
                int n = at % 100;
                assertEquals(at, record.offset());
                assertEquals(codec, record.key());
                assertEquals(n % 10 == 9 ? null : codec.repeat(n), record.value());
                assertEquals(FIRST_MS + n, record.timestamp());
                assertArrayEquals(new byte[] {0, (byte) n, -1}, record.headers().lastHeader("n").value());
            }
        }
    }

    @Test
    @Shows("an idempotent producer with five requests in flight stores each record once, in order")
    void idempotentProducerKeepsOrder() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "order", 1);
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        try (var producer = Kit.producer(Kit.kafka(), Map.of("batch.size", 200, "max.in.flight.requests.per.connection", 5))) {
            IntStream.range(0, 2_000).forEach(n -> answers.add(producer.send(new ProducerRecord<>(topic, Integer.toString(n)))));
            for (int n = 0; n < answers.size(); n++) {
                assertEquals(n, Kit.get(answers.get(n)).offset());
            }
        }
        try (var consumer = Kit.consumer(Kit.kafka(), Map.of())) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            List<ConsumerRecord<String, String>> records = Kit.take(consumer, 2_000);
            IntStream.range(0, 2_000).forEach(n -> assertEquals(Integer.toString(n), records.get(n).value()));
        }
    }

    @Test
    @Shows("a topic with LogAppendTime stamps records with the broker's clock")
    void appendTimeIsTheBrokers() throws Exception {
        String topic = Kit.unique("append-time");
        try (Admin admin = Kit.admin(Kit.kafka())) {
            var wanted = new NewTopic(topic, 1, (short) 1).configs(Map.of("message.timestamp.type", "LogAppendTime"));
            Kit.get(admin.createTopics(List.of(wanted)).all());
        }
        long before = System.currentTimeMillis();
        try (var producer = Kit.producer(Kit.kafka(), Map.of())) {
            RecordMetadata stored = Kit.get(producer.send(new ProducerRecord<>(topic, 0, FIRST_MS, null, "x")));
            assertTrue(stored.timestamp() >= before, "answered with " + stored.timestamp());
        }
        try (var consumer = Kit.consumer(Kit.kafka(), Map.of())) {
            consumer.assign(List.of(new TopicPartition(topic, 0)));
            ConsumerRecord<String, String> record = Kit.take(consumer, 1).get(0);
            assertEquals(TimestampType.LOG_APPEND_TIME, record.timestampType());
            assertTrue(record.timestamp() >= before, "stamped " + record.timestamp());
        }
    }

    @Test
    @Shows("a batch above max.message.bytes is refused, and the next one is stored")
    void tooLargeIsRefused() throws Exception {
        String topic = Kit.unique("limit");
        try (Admin admin = Kit.admin(Kit.kafka())) {
            Kit.get(admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("max.message.bytes", "2000")))).all());
        }
        try (KafkaProducer<String, String> producer = Kit.producer(Kit.kafka(), Map.of())) {
            assertThrows(RecordTooLargeException.class, () -> Kit.get(producer.send(new ProducerRecord<>(topic, "x".repeat(3_000)))));
            assertEquals(0, Kit.get(producer.send(new ProducerRecord<>(topic, "x".repeat(1_000)))).offset());
        }
    }

    @Test
    @Shows("seek to offset, time, begin and end; an offset outside the log is refused")
    void readersGoWhereTheyWant() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "seek", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var producer = Kit.producer(Kit.kafka(), Map.of())) {
            for (int n = 0; n < 10; n++) {
                producer.send(new ProducerRecord<>(topic, 0, FIRST_MS + n * 1_000L, null, "v" + n));
            }
        }
        try (var consumer = Kit.consumer(Kit.kafka(), Map.of("auto.offset.reset", "none"))) {
            consumer.assign(List.of(partition));
            var found = consumer.offsetsForTimes(Map.of(partition, FIRST_MS + 3_500)).get(partition);
            assertNotNull(found);
            assertEquals(4, found.offset());
            consumer.seek(partition, found.offset());
            assertEquals("v4", Kit.take(consumer, 6).get(0).value());
            assertEquals(Map.of(partition, 0L), consumer.beginningOffsets(List.of(partition)));
            assertEquals(Map.of(partition, 10L), consumer.endOffsets(List.of(partition)));
            consumer.seek(partition, 1_000);
            assertThrows(OffsetOutOfRangeException.class, () -> Kit.take(consumer, 1));
        }
    }
}
