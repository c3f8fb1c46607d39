package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

@ExtendWith(ResultLines.class)
class GroupsTest {
    private static final String EAGER = "org.apache.kafka.clients.consumer.RangeAssignor";
    private static final String COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

    @Test
    @Shows("classic group, eager: six members restarted five times over, nothing lost, nothing processed twice")
    void sixEagerMembersRestarted() throws Exception {
        restartRounds(EAGER);
    }

    @Test
    @Shows("classic group, cooperative: six members restarted five times over, nothing lost, nothing processed twice")
    void sixCooperativeMembersRestarted() throws Exception {
        restartRounds(COOPERATIVE);
    }

    private static void restartRounds(String assignor) throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "restarts", 12);
        Map<String, Object> options = Map.of("group.id", Kit.unique("restarts"), "partition.assignment.strategy", assignor);
        ConcurrentHashMap<String, AtomicInteger> tally = new ConcurrentHashMap<>();
        ConcurrentLinkedQueue<Throwable> trouble = new ConcurrentLinkedQueue<>();
        AtomicBoolean enough = new AtomicBoolean();
        AtomicInteger produced = new AtomicInteger();
        Thread source = new Thread(() -> produce(topic, enough, produced, trouble));
        source.setDaemon(true);
        source.start();
        List<Worker> members = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            members.add(new Worker(Kit.kafka(), topic, tally, trouble, options));
        }
        for (Worker member : members) {
            Kit.eventually("every member has a share", () -> member.owned() > 0);
        }
        for (int round = 0; round < 5; round++) {
            for (int i = 0; i < 6; i++) {
                members.get(i).stop();
                Worker fresh = new Worker(Kit.kafka(), topic, tally, trouble, options);
                members.set(i, fresh);
                Kit.eventually("the new member has a share", () -> fresh.owned() > 0);
            }
        }
        enough.set(true);
        source.join();
        Kit.eventually("everything is processed", () -> tally.size() == produced.get());
        for (Worker member : members) {
            member.stop();
        }
        Set<String> repeated = tally.entrySet().stream()
                .filter(entry -> entry.getValue().get() != 1)
                .map(Map.Entry::getKey)
                .collect(Collectors.toSet());
        assertEquals(Set.of(), repeated, "processed twice, of " + produced);
        assertEquals(List.of(), List.copyOf(trouble));
    }

    private static void produce(String topic, AtomicBoolean enough, AtomicInteger produced, ConcurrentLinkedQueue<Throwable> trouble) {
        try (var producer = Kit.producer(Kit.kafka(), Map.of())) {
            while (!enough.get()) {
                int n = produced.getAndIncrement();
                producer.send(new ProducerRecord<>(topic, Integer.toString(n % 100), Integer.toString(n)), (stored, error) -> {
                    if (error != null) {
                        trouble.add(error);
                    }
                });
                Thread.sleep(1);
            }
        } catch (InterruptedException interrupted) {
            trouble.add(interrupted);
        }
    }

    /** Members that poll in turn on one thread, as long as they are told to. */
    private static void pollAll(List<KafkaConsumer<String, String>> members, Duration howLong) {
        long until = System.nanoTime() + howLong.toNanos();
        while (System.nanoTime() < until) {
            members.forEach(member -> member.poll(Duration.ofMillis(20)));
        }
    }

    private static Map<String, String> snapshot(List<KafkaConsumer<String, String>> members) {
        Map<String, String> all = new TreeMap<>();
        for (KafkaConsumer<String, String> member : members) {
            ConsumerGroupMetadata metadata = member.groupMetadata();
            List<Integer> partitions = member.assignment().stream().map(TopicPartition::partition).sorted().toList();
            all.put(metadata.memberId(), "generation " + metadata.generationId() + " owns " + partitions);
        }
        return all;
    }

    private static void settle(List<KafkaConsumer<String, String>> members, int partitions) throws Exception {
        int each = partitions / members.size();
        Kit.eventually("every member owns " + each, () -> {
            pollAll(members, Duration.ofMillis(100));
            return members.stream().allMatch(member -> member.assignment().size() == each);
        });
    }

    @Test
    @Shows("a broker killed and restarted within the session causes no rebalance: members, generation and assignment stay")
    void aBrokerThatComesBackInTime(@TempDir Path folder) throws Exception {
        try (Broker broker = new Broker(folder)) {
            String topic = Kit.newTopic(broker.kafka(), "restart", 6);
            Map<String, Object> options = Map.of("group.id", "restart", "partition.assignment.strategy", EAGER,
                    "session.timeout.ms", 30_000, "reconnect.backoff.max.ms", 100,
                    // Starting over from the bootstrap list empties the client's metadata, which asks for a rebalance.
                    "metadata.recovery.strategy", "none");
            List<KafkaConsumer<String, String>> members = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                KafkaConsumer<String, String> member = Kit.consumer(broker.kafka(), options);
                member.subscribe(List.of(topic));
                members.add(member);
            }
            settle(members, 6);
            Map<String, String> before = snapshot(members);
            broker.kill();
            pollAll(members, Duration.ofSeconds(1));
            broker.start();
            pollAll(members, Duration.ofSeconds(5));
            assertEquals(before, snapshot(members));
            try (var producer = Kit.producer(broker.kafka(), Map.of())) {
                Kit.get(producer.send(new ProducerRecord<>(topic, 0, null, "after the restart")));
            }
            AtomicInteger came = new AtomicInteger();
            Kit.eventually("records come again", () -> {
                members.forEach(member -> came.addAndGet(member.poll(Duration.ofMillis(20)).count()));
                return came.get() == 1;
            });
            assertEquals(before, snapshot(members));
            members.forEach(KafkaConsumer::close);
        }
    }

    @Test
    @Shows("static membership: a member that comes back within its session causes no rebalance")
    void aStaticMemberThatComesBackInTime() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "static", 4);
        String group = Kit.unique("static");
        List<KafkaConsumer<String, String>> members = new ArrayList<>();
        for (String instance : List.of("stays", "goes")) {
            KafkaConsumer<String, String> member = staticMember(group, instance);
            member.subscribe(List.of(topic));
            members.add(member);
        }
        settle(members, 4);
        String stayed = snapshot(members.subList(0, 1)).toString();
        Set<TopicPartition> share = Set.copyOf(members.get(1).assignment());
        members.get(1).close();
        pollAll(members.subList(0, 1), Duration.ofSeconds(1));
        members.set(1, staticMember(group, "goes"));
        members.get(1).subscribe(List.of(topic));
        settle(members, 4);
        assertEquals(stayed, snapshot(members.subList(0, 1)).toString());
        assertEquals(share, members.get(1).assignment());
        members.forEach(KafkaConsumer::close);
    }

    private static KafkaConsumer<String, String> staticMember(String group, String instance) {
        return Kit.consumer(Kit.kafka(), Map.of("group.id", group, "group.instance.id", instance, "partition.assignment.strategy", EAGER));
    }

    @Test
    @Shows("a member that is killed is replaced after its session, and its uncommitted records come again")
    void aDeadMembersPartitionsMoveOn() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "dead", 2);
        Map<String, Object> options = Map.of("group.id", Kit.unique("dead"), "session.timeout.ms", 6_000, "max.poll.interval.ms", 6_000);
        try (var producer = Kit.producer(Kit.kafka(), Map.of())) {
            for (int n = 0; n < 20; n++) {
                producer.send(new ProducerRecord<>(topic, n % 2, null, Integer.toString(n)));
            }
        }
        // It is never polled again and stops its heartbeats itself, as a process that hangs does.
        try (KafkaConsumer<String, String> hung = Kit.consumer(Kit.kafka(), options);
                KafkaConsumer<String, String> heir = Kit.consumer(Kit.kafka(), options)) {
            hung.subscribe(List.of(topic));
            assertEquals(20, Kit.take(hung, 20).size());
            heir.subscribe(List.of(topic));
            assertEquals(20, Kit.take(heir, 20).size());
            assertEquals(2, heir.assignment().size());
        }
    }

    @Test
    @Shows("a group is described with its members, their hosts, instances and assignments")
    void aGroupIsDescribed() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "described", 2);
        String group = Kit.unique("described");
        try (KafkaConsumer<String, String> member =
                        Kit.consumer(Kit.kafka(), Map.of("group.id", group, "client.id", "the-client", "group.instance.id", "one"));
                Admin admin = Kit.admin(Kit.kafka())) {
            member.subscribe(List.of(topic));
            settle(List.of(member), 2);
            ConsumerGroupDescription described = Kit.get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            assertEquals(GroupState.STABLE, described.groupState());
            assertEquals("range", described.partitionAssignor());
            var only = described.members().iterator().next();
            assertEquals("the-client", only.clientId());
            assertEquals("one", only.groupInstanceId().orElseThrow());
            assertTrue(only.host().contains("127.0.0.1"), only.host());
            assertEquals(Set.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1)), only.assignment().topicPartitions());
        }
    }
}
