package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Apache's command line tools, as their users type them. */
@ExtendWith(ResultLines.class)
class ToolsTest {
    private static final String TOPICS = "org.apache.kafka.tools.TopicCommand";
    private static final String CONFIGS = "kafka.admin.ConfigCommand";
    private static final String GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    private static final String OFFSETS = "org.apache.kafka.tools.GetOffsetShell";
    private static final String CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer";
    private static final String CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer";

    private static String tool(String main, String... arguments) throws Exception {
        return typed(main, "", arguments);
    }

    private static String typed(String main, String input, String... arguments) throws Exception {
        String[] all = Arrays.copyOf(arguments, arguments.length + 2);
        all[arguments.length] = "--bootstrap-server";
        all[arguments.length + 1] = Kit.kafka();
        return Tools.apache(main, input, all);
    }

    @Test
    @Shows(value = "kafka-topics, kafka-configs: create, list, describe, alter, delete", client = "Apache's command line tools")
    void topicsAndTheirSettings() throws Exception {
        String topic = Kit.unique("tools");
        tool(TOPICS, "--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=123456789");
        String described = tool(TOPICS, "--describe", "--topic", topic);
        assertTrue(described.contains("PartitionCount: 3"), described);
        assertTrue(described.contains("retention.ms=123456789"), described);
        assertTrue(tool(TOPICS, "--list").lines().anyMatch(topic::equals));
        tool(TOPICS, "--alter", "--topic", topic, "--partitions", "5");
        assertTrue(tool(TOPICS, "--describe", "--topic", topic).contains("PartitionCount: 5"));
        tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", "max.message.bytes=4321");
        String settings = tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic);
        assertTrue(settings.contains("max.message.bytes=4321"), settings);
        assertTrue(settings.contains("retention.ms=123456789"), settings);
        tool(CONFIGS, "--alter", "--entity-type", "topics", "--entity-name", topic, "--delete-config", "max.message.bytes");
        String without = tool(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic);
        assertTrue(!without.contains("max.message.bytes=4321"), without);
        tool(TOPICS, "--delete", "--topic", topic);
        assertTrue(tool(TOPICS, "--list").lines().noneMatch(topic::equals));
    }

    @Test
    @Shows(value = "kafka-leader-election, kafka-metadata-quorum, kafka-log-dirs, kafka-delete-records, kafka-broker-api-versions, kafka-cluster", client = "Apache's command line tools")
    void theNodeItself(@TempDir Path folder) throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "node", 1);
        typed(CONSOLE_PRODUCER, "a\nb\nc\n", "--topic", topic);
        String elected = tool("org.apache.kafka.tools.LeaderElectionCommand", "--election-type", "preferred", "--topic", topic, "--partition", "0");
        assertTrue(elected.contains("Valid replica already elected for partitions " + topic + "-0"), elected);
        tool("org.apache.kafka.tools.LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions");
        String quorum = Tools.apache("org.apache.kafka.tools.MetadataQuorumCommand", "", "--bootstrap-server", Kit.kafka(), "describe", "--status");
        assertTrue(quorum.lines().anyMatch(line -> line.matches("LeaderId:\\s+1")), quorum);
        String dirs = tool("org.apache.kafka.tools.LogDirsCommand", "--describe", "--topic-list", topic);
        assertTrue(dirs.contains("\"partition\":\"" + topic + "-0\""), dirs);
        Path before = Files.writeString(folder.resolve("before.json"),
                "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":2}]}");
        String deleted = tool("org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", before.toString());
        assertTrue(deleted.contains("low_watermark: 2"), deleted);
        String versions = tool("org.apache.kafka.tools.BrokerApiVersionsCommand");
        assertTrue(versions.contains("Produce(0): 0 to 13") && versions.contains("EndTxn(26): UNSUPPORTED"), versions);
        String cluster = tool("org.apache.kafka.tools.ClusterTool", "cluster-id");
        assertTrue(cluster.matches("(?s)Cluster ID: [\\w-]{22}\\s*"), cluster);
    }

    @Test
    @Shows(value = "kafka-console-producer, kafka-console-consumer, kafka-get-offsets", client = "Apache's command line tools")
    void theConsole() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "console", 1);
        String lines = IntStream.range(0, 10).mapToObj(n -> "key-" + n + ":value " + n + "\n").collect(Collectors.joining());
        typed(CONSOLE_PRODUCER, lines, "--topic", topic, "--reader-property", "parse.key=true", "--reader-property", "key.separator=:");
        assertEquals(topic + ":0:10", tool(OFFSETS, "--topic", topic).strip());
        assertEquals(topic + ":0:0", tool(OFFSETS, "--topic", topic, "--time", "earliest").strip());
        String read = tool(CONSOLE_CONSUMER, "--topic", topic, "--from-beginning", "--max-messages", "10",
                "--formatter-property", "print.key=true", "--formatter-property", "key.separator=:");
        assertTrue(read.startsWith(lines), read);
    }

    @Test
    @Shows(value = "kafka-consumer-groups: lag, and a reset to earliest, to a time, to an offset", client = "Apache's command line tools")
    void groupsAreDescribedAndReset() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "reset", 1);
        String group = Kit.unique("reset");
        long firstMs = fillAndRead(topic, group, 10, 4);
        assertEquals(List.of("4", "10", "6"), described(group, topic));
        reset(group, topic, "--to-earliest");
        assertEquals(List.of("0", "10", "10"), described(group, topic));
        String time = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS").withZone(ZoneOffset.UTC).format(Instant.ofEpochMilli(firstMs + 6_500));
        reset(group, topic, "--to-datetime", time);
        assertEquals(List.of("7", "10", "3"), described(group, topic));
        reset(group, topic, "--to-offset", "5");
        assertEquals(List.of("5", "10", "5"), described(group, topic));
        assertTrue(tool(GROUPS, "--list").lines().anyMatch(group::equals));
        tool(GROUPS, "--delete", "--group", group);
        assertTrue(tool(GROUPS, "--list").lines().noneMatch(group::equals));
    }

    /** Stores records a second apart and lets a group commit some; returns the first time. */
    private static long fillAndRead(String topic, String group, int stored, int read) throws Exception {
        long firstMs = System.currentTimeMillis() - 3_600_000;
        try (var producer = Kit.producer(Kit.kafka(), Map.of())) {
            for (int n = 0; n < stored; n++) {
                producer.send(new ProducerRecord<>(topic, 0, firstMs + n * 1_000L, null, "v" + n));
            }
        }
        try (var consumer = Kit.consumer(Kit.kafka(), Map.of("group.id", group, "max.poll.records", 1))) {
            consumer.subscribe(List.of(topic));
            Kit.take(consumer, read);
            consumer.commitSync();
        }
        return firstMs;
    }

    private static void reset(String group, String topic, String... to) throws Exception {
        String[] arguments = {"--reset-offsets", "--group", group, "--topic", topic, "--execute"};
        String[] all = Arrays.copyOf(arguments, arguments.length + to.length);
        System.arraycopy(to, 0, all, arguments.length, to.length);
        tool(GROUPS, all);
    }

    /** Current offset, end and lag of the only partition, as the tool prints them. */
    private static List<String> described(String group, String topic) throws Exception {
        String printed = tool(GROUPS, "--describe", "--group", group);
        String row = printed.lines().filter(line -> line.contains(topic)).findFirst().orElseThrow(() -> new AssertionError(printed));
        List<String> cells = Arrays.asList(row.strip().split("\\s+"));
        int at = cells.indexOf(topic) + 2;
        // Newer tools print the leader's epoch between partition and offset.
        List<String> numbers = cells.subList(at, cells.size()).stream().filter(cell -> cell.matches("\\d+")).toList();
        return numbers.subList(numbers.size() - 3, numbers.size());
    }

    @Test
    @Shows(value = "the lag that kafka-consumer-groups tells is the lag that wiremill cursor lag tells", client = "Apache's command line tools")
    void bothCommandLinesTellTheSameLag() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "lag", 1);
        String group = Kit.unique("lag");
        fillAndRead(topic, group, 50, 20);
        JsonNode row = Tools.wiremill(Kit.need("WIREMILL_ADMIN"), "cursor", "lag", group).get("lag").get(0);
        List<String> ours = List.of(row.get("position").asText(), row.get("end").asText(), row.get("lag_records").asText());
        assertEquals(List.of("20", "50", "30"), ours);
        assertEquals(described(group, topic), ours);
    }
}
