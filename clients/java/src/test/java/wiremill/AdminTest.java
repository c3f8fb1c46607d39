package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** What Apache's own admin client asks for, each call in the highest version that there is. */
@ExtendWith(ResultLines.class)
class AdminTest {
    private static void fill(String topic, int count) throws Exception {
        try (var producer = Kit.producer(Kit.kafka(), Map.of())) {
            for (int n = 0; n < count; n++) {
                producer.send(new ProducerRecord<>(topic, 0, null, "v" + n));
            }
        }
    }

    @Test
    @Shows("admin client: topics created with their settings, described by name and by id, grown, deleted by id")
    void topics() throws Exception {
        String topic = Kit.unique("admin");
        try (Admin admin = Kit.admin(Kit.kafka())) {
            var created = admin.createTopics(List.of(new NewTopic(topic, Optional.of(2), Optional.empty())
                    .configs(Map.of("retention.ms", "123456789"))));
            assertEquals(2, Kit.get(created.numPartitions(topic)));
            assertEquals(1, Kit.get(created.replicationFactor(topic)));
            assertEquals("123456789", Kit.get(created.config(topic)).get("retention.ms").value());
            var id = Kit.get(created.topicId(topic));
            assertThrows(TopicExistsException.class,
                    () -> Kit.get(admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all()));
            var byName = Kit.get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
            var byId = Kit.get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds()).get(id);
            assertEquals(id, byName.topicId());
            assertEquals(topic, byId.name());
            assertEquals(List.of(0, 1), byName.partitions().stream().map(partition -> partition.partition()).toList());
            assertEquals(2, byId.partitions().size());
            Kit.get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3, List.of(List.of(1))))).all());
            assertThrows(InvalidPartitionsException.class,
                    () -> Kit.get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all()));
            assertEquals(3, Kit.get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size());
            Kit.get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
            assertThrows(UnknownTopicOrPartitionException.class, () -> Kit.get(admin.deleteTopics(List.of(topic)).all()));
        }
    }

    @Test
    @Shows("admin client: settings of topics and of the broker, with sources, synonyms and documentation; changes one by one")
    void settings() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "admin", 1);
        ConfigResource ours = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        DescribeConfigsOptions all = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        try (Admin admin = Kit.admin(Kit.kafka())) {
            Kit.get(admin.incrementalAlterConfigs(Map.of(ours, List.of(
                    new AlterConfigOp(new ConfigEntry("retention.ms", "5000000"), AlterConfigOp.OpType.SET),
                    new AlterConfigOp(new ConfigEntry("leader.replication.throttled.replicas", "0:1"), AlterConfigOp.OpType.APPEND)))).all());
            var described = Kit.get(admin.describeConfigs(List.of(ours, broker), all).all());
            ConfigEntry retention = described.get(ours).get("retention.ms");
            assertEquals("5000000", retention.value());
            assertEquals(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, retention.source());
            assertTrue(retention.documentation() != null && !retention.synonyms().isEmpty(), retention.toString());
            ConfigEntry replication = described.get(broker).get("default.replication.factor");
            assertEquals(List.of("default.replication.factor"), replication.synonyms().stream().map(ConfigEntry.ConfigSynonym::name).toList());
            assertTrue(described.get(broker).entries().size() >= 300, described.get(broker).entries().size() + " settings");
            assertNull(described.get(broker).get("ssl.key.password").value());
            Kit.get(admin.incrementalAlterConfigs(Map.of(ours, List.of(
                    new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE)))).all());
            assertTrue(Kit.get(admin.describeConfigs(List.of(ours)).all()).get(ours).get("retention.ms").isDefault());
            Set<ConfigResource> listed = Set.copyOf(Kit.get(admin.listConfigResources().all()));
            assertTrue(listed.containsAll(Set.of(ours, broker)), listed.toString());
        }
    }

    @Test
    @Shows("admin client: cluster, quorum, features, log directories, producers, elections and reassignments as one node answers them")
    void oneNode() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "admin", 1);
        fill(topic, 10);
        TopicPartition first = new TopicPartition(topic, 0);
        try (Admin admin = Kit.admin(Kit.kafka())) {
            var cluster = admin.describeCluster();
            List<Integer> nodes = Kit.get(cluster.nodes()).stream().map(Node::id).toList();
            assertEquals(List.of(1), nodes);
            assertEquals(1, Kit.get(cluster.controller()).id());
            assertTrue(Kit.get(cluster.clusterId()).length() == 22);
            var quorum = Kit.get(admin.describeMetadataQuorum().quorumInfo());
            assertEquals(1, quorum.leaderId());
            assertEquals(List.of(1), quorum.voters().stream().map(voter -> voter.replicaId()).toList());
            var features = Kit.get(admin.describeFeatures().featureMetadata());
            assertEquals(Set.of("metadata.version"), features.finalizedFeatures().keySet());
            var directory = Kit.get(admin.describeLogDirs(nodes).allDescriptions()).get(1).values().iterator().next();
            assertTrue(directory.replicaInfos().get(first).size() > 0);
            assertTrue(directory.usableBytes().getAsLong() > 0 && directory.totalBytes().getAsLong() >= directory.usableBytes().getAsLong());
            var producers = Kit.get(admin.describeProducers(List.of(first)).partitionResult(first)).activeProducers();
            assertEquals(List.of(9), producers.stream().map(producer -> producer.lastSequence()).toList());
            var elected = Kit.get(admin.electLeaders(ElectionType.PREFERRED, Set.of(first)).partitions());
            assertTrue(elected.get(first).orElseThrow() instanceof ElectionNotNeededException, elected.toString());
            assertEquals(Map.of(), Kit.get(admin.electLeaders(ElectionType.PREFERRED, null).partitions()));
            assertEquals(Map.of(), Kit.get(admin.listPartitionReassignments().reassignments()));
            Kit.get(admin.alterPartitionReassignments(Map.of(first, Optional.of(new NewPartitionReassignment(List.of(1))))).all());
            assertThrows(InvalidReplicaAssignmentException.class, () -> Kit.get(admin.alterPartitionReassignments(
                    Map.of(first, Optional.of(new NewPartitionReassignment(List.of(1, 2))))).all()));
            assertThrows(NoReassignmentInProgressException.class,
                    () -> Kit.get(admin.alterPartitionReassignments(Map.of(first, Optional.empty())).all()));
        }
    }

    @Test
    @Shows("admin client: offsets listed by every special time, records deleted, group offsets set, listed and deleted")
    void offsets() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "admin", 1);
        String group = Kit.unique("admin");
        fill(topic, 10);
        TopicPartition first = new TopicPartition(topic, 0);
        try (Admin admin = Kit.admin(Kit.kafka())) {
            Map<OffsetSpec, Long> specs = Map.of(OffsetSpec.earliest(), 0L, OffsetSpec.latest(), 10L, OffsetSpec.earliestLocal(), 0L,
                    OffsetSpec.latestTiered(), -1L, OffsetSpec.earliestPendingUpload(), -1L, OffsetSpec.forTimestamp(0), 0L);
            for (var spec : specs.entrySet()) {
                long found = Kit.get(admin.listOffsets(Map.of(first, spec.getKey())).all()).get(first).offset();
                assertEquals(spec.getValue(), found, spec.getKey().getClass().getSimpleName());
            }
            assertTrue(Kit.get(admin.listOffsets(Map.of(first, OffsetSpec.maxTimestamp())).all()).get(first).offset() >= 0);
            long low = Kit.get(admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(first)).lowWatermark();
            assertEquals(4, low);
            Kit.get(admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(7, Optional.of(0), "by hand"))).all());
            var committed = Kit.get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(first);
            assertEquals(new OffsetAndMetadata(7, Optional.of(0), "by hand"), committed);
            Kit.get(admin.deleteConsumerGroupOffsets(group, Set.of(first)).all());
            assertEquals(Map.of(), Kit.get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()));
            Kit.get(admin.alterConsumerGroupOffsets(group, Map.of(first, new OffsetAndMetadata(5))).all());
            Kit.get(admin.deleteConsumerGroups(List.of(group)).all());
            assertThrows(GroupIdNotFoundException.class, () -> Kit.get(admin.deleteConsumerGroups(List.of(group)).all()));
            assertThrows(GroupIdNotFoundException.class, () -> Kit.get(admin.describeConsumerGroups(List.of(group)).all()));
        }
    }

    @Test
    @Shows("admin client: a static member is listed, described, and put out by its name")
    void members() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "admin", 1);
        String group = Kit.unique("admin");
        try (Admin admin = Kit.admin(Kit.kafka());
                var member = Kit.consumer(Kit.kafka(), Map.of("group.id", group, "group.instance.id", "machine-1"))) {
            member.subscribe(List.of(topic));
            fill(topic, 1);
            Kit.take(member, 1);
            assertTrue(Kit.get(admin.listGroups().all()).stream().anyMatch(listed -> listed.groupId().equals(group)));
            var described = Kit.get(admin.describeClassicGroups(List.of(group)).all()).get(group);
            assertEquals(List.of(Optional.of("machine-1")), described.members().stream().map(m -> m.groupInstanceId()).toList());
            Kit.get(admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("machine-1")))).all());
            var after = Kit.get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            assertEquals(Set.of(), after.members().stream().map(m -> m.consumerId()).collect(Collectors.toSet()));
        }
    }

    @Test
    @Shows("admin client: what is not served is told apart as unsupported, and the connection goes on")
    void unsupported() throws Exception {
        try (Admin admin = Kit.admin(Kit.kafka())) {
            assertThrows(UnsupportedVersionException.class, () -> Kit.get(admin.describeAcls(AclBindingFilter.ANY).values()));
            assertThrows(UnsupportedVersionException.class, () -> Kit.get(admin.listTransactions().all()));
            assertEquals(1, Kit.get(admin.describeCluster().nodes()).size());
        }
    }
}
