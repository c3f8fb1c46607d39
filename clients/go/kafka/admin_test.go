package kafka_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wiremill/clients/kit"
)

// anHourAgo in milliseconds. Retention goes by the producer's clock, and takes what is a week old.
func anHourAgo() int64 { return time.Now().Add(-time.Hour).UnixMilli() }

// fill stores n records in partition 0, a second apart by their own clocks, and returns the first time.
func fill(t testing.TB, address, topic string, n int) int64 {
	t.Helper()
	firstMs := anHourAgo()
	producer := franz(t, address, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Value: fmt.Append(nil, i), Timestamp: time.UnixMilli(firstMs + int64(i)*1_000)})
	}
	kit.Check(t, producer.ProduceSync(kit.Context(t), records...).FirstErr(), "fill "+topic)
	return firstMs
}

func TestFranzTopicsAreCreatedGrownAndRefusedInKafkasWords(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "topics: create, grow, delete, and each refusal in Kafka's words")
	ctx, admin := kit.Context(t), kadm.NewClient(franz(t, kit.Kafka(t)))
	topic := newTopic(t, kit.Kafka(t), "admin", 2)
	bad := func(name string, want error, do func() error) {
		t.Helper()
		if err := do(); !errors.Is(err, want) {
			t.Errorf("%s: %v, not %v", name, err, want)
		}
	}
	create := func(partitions int32, replicas int16, configs map[string]*string, name string) func() error {
		return func() error {
			_, err := admin.CreateTopic(ctx, partitions, replicas, configs, name)
			return err
		}
	}
	value := "no number"
	bad("the same name again", kerr.TopicAlreadyExists, create(1, -1, nil, topic))
	bad("a slash in the name", kerr.InvalidTopicException, create(1, -1, nil, "a/b"))
	bad("no partitions", kerr.InvalidPartitions, create(0, -1, nil, kit.Name("none")))
	bad("three replicas on one node", kerr.InvalidReplicationFactor, create(1, 3, nil, kit.Name("replicas")))
	bad("an unknown setting", kerr.InvalidConfig, create(1, -1, map[string]*string{"no.such.setting": &value}, kit.Name("config")))
	bad("a setting of the wrong kind", kerr.InvalidConfig, create(1, -1, map[string]*string{"retention.ms": &value}, kit.Name("config")))
	update := func(count int) func() error {
		return func() error {
			responses, err := admin.UpdatePartitions(ctx, count, topic)
			return errors.Join(err, responses.Error())
		}
	}
	bad("fewer partitions", kerr.InvalidPartitions, update(1))
	kit.Check(t, update(5)(), "more partitions")
	kit.Eventually(t, "it has five partitions", func() bool {
		details, err := admin.ListTopics(ctx, topic)
		return err == nil && len(details[topic].Partitions) == 5
	})
	checked := kit.Name("checked")
	validated, err := admin.ValidateCreateTopics(ctx, 1, -1, nil, checked)
	kit.Check(t, errors.Join(err, validated.Error()), "validate only")
	if details, err := admin.ListTopics(ctx); err != nil || details.Has(checked) || !details.Has(topic) {
		t.Errorf("after a validation: %v, %v", details.Names(), err)
	}
	_, err = admin.DeleteTopic(ctx, topic)
	kit.Check(t, err, "delete")
	bad("delete again", kerr.UnknownTopicOrPartition, func() error { _, err := admin.DeleteTopic(ctx, topic); return err })
}

func TestFranzOffsetsAreListedByEverySpecialTimestamp(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "offsets listed by earliest, latest, time and maximum time")
	ctx, admin := kit.Context(t), kadm.NewClient(franz(t, kit.Kafka(t)))
	topic := newTopic(t, kit.Kafka(t), "offsets", 1)
	first := fill(t, kit.Kafka(t), topic, 10)
	check := func(name string, want int64, listed kadm.ListedOffsets, err error) {
		t.Helper()
		kit.Check(t, errors.Join(err, listed.Error()), name)
		if got := listed[topic][0].Offset; got != want {
			t.Errorf("%s: %d, not %d", name, got, want)
		}
	}
	listed, err := admin.ListStartOffsets(ctx, topic)
	check("earliest", 0, listed, err)
	listed, err = admin.ListEndOffsets(ctx, topic)
	check("latest", 10, listed, err)
	listed, err = admin.ListCommittedOffsets(ctx, topic)
	check("latest that is committed", 10, listed, err)
	listed, err = admin.ListMaxTimestampOffsets(ctx, topic)
	check("maximum time", 9, listed, err)
	listed, err = admin.ListLocalLogStartOffsets(ctx, topic)
	check("earliest local", 0, listed, err)
	for _, step := range []struct{ after, want int64 }{{-1, 0}, {0, 0}, {1, 1}, {4_000, 4}, {4_001, 5}, {9_000, 9}} {
		listed, err = admin.ListOffsetsAfterMilli(ctx, first+step.after, topic)
		check(fmt.Sprintf("%d ms after the first", step.after), step.want, listed, err)
	}
	listed, err = admin.ListOffsetsAfterMilli(ctx, first+9_001, topic)
	check("after the last", 10, listed, err)
}

func TestFranzDeletedRecordsAreGoneAndTheRestStays(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "records deleted up to an offset are gone, the rest stays")
	ctx, address := kit.Context(t), kit.Kafka(t)
	admin := kadm.NewClient(franz(t, address))
	topic := newTopic(t, address, "trim", 1)
	fill(t, address, topic, 10)
	remove := func(before int64) (kadm.DeleteRecordsResponse, error) {
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, before, -1)
		responses, err := admin.DeleteRecords(ctx, offsets)
		if err == nil {
			err = responses.Error()
		}
		return responses[topic][0], err
	}
	response, err := remove(4)
	kit.Check(t, err, "delete")
	if response.LowWatermark != 4 {
		t.Errorf("the log begins at %d", response.LowWatermark)
	}
	if got := read(t, franz(t, address, kgo.ConsumeTopics(topic)), 6); got[0].Offset != 4 {
		t.Errorf("reading begins at %d", got[0].Offset)
	}
	if _, err := remove(11); !errors.Is(err, kerr.OffsetOutOfRange) {
		t.Errorf("beyond the end: %v", err)
	}
	if response, err := remove(-1); err != nil || response.LowWatermark != 10 {
		t.Errorf("up to the end: %+v, %v", response, err)
	}
}

func TestFranzSettingsAreReadAndChangedOneByOne(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "topic settings: described with value and source, changed one by one, set back")
	ctx, admin := kit.Context(t), kadm.NewClient(franz(t, kit.Kafka(t)))
	topic := newTopic(t, kit.Kafka(t), "settings", 1)
	describe := func(name string) (kadm.Config, bool) {
		t.Helper()
		resources, err := admin.DescribeTopicConfigs(ctx, topic)
		kit.Check(t, err, "describe")
		for _, config := range resources[0].Configs {
			if config.Key == name {
				return config, true
			}
		}
		return kadm.Config{}, false
	}
	alter := func(op kadm.IncrementalOp, name, value string) error {
		responses, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: name, Value: &value}}, topic)
		if err != nil {
			return err
		}
		return responses[0].Err
	}
	expect := func(name, value string, source kmsg.ConfigSource) {
		t.Helper()
		kit.Eventually(t, name+" is "+value, func() bool {
			config, known := describe(name)
			return known && config.MaybeValue() == value && config.Source == source
		})
	}
	expect("retention.ms", "604800000", kmsg.ConfigSourceDefaultConfig)
	expect("cleanup.policy", "delete", kmsg.ConfigSourceDefaultConfig)
	expect("max.message.bytes", "1048588", kmsg.ConfigSourceDefaultConfig)
	expect("compression.type", "producer", kmsg.ConfigSourceDefaultConfig)
	kit.Check(t, alter(kadm.SetConfig, "retention.ms", "1000000"), "set")
	expect("retention.ms", "1000000", kmsg.ConfigSourceDynamicTopicConfig)
	kit.Check(t, alter(kadm.SetConfig, "min.insync.replicas", "1"), "a setting without effect on one node")
	expect("min.insync.replicas", "1", kmsg.ConfigSourceDynamicTopicConfig)
	kit.Check(t, alter(kadm.DeleteConfig, "retention.ms", ""), "set back")
	expect("retention.ms", "604800000", kmsg.ConfigSourceDefaultConfig)
	if err := alter(kadm.SetConfig, "retention.ms", "soon"); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("a value that is no number: %v", err)
	}
	if err := alter(kadm.SetConfig, "no.such.setting", "1"); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("an unknown setting: %v", err)
	}
	nodes, err := admin.ListBrokers(ctx)
	kit.Check(t, err, "list the brokers")
	brokers, err := admin.DescribeBrokerConfigs(ctx, nodes[0].NodeID)
	kit.Check(t, err, "describe the broker")
	names := []string{}
	for _, config := range brokers[0].Configs {
		names = append(names, config.Key)
	}
	for _, name := range []string{"num.partitions", "log.retention.ms", "message.max.bytes", "auto.create.topics.enable"} {
		if !slices.Contains(names, name) {
			t.Errorf("the broker does not tell %s", name)
		}
	}
}

func TestFranzAGroupIsDescribedResetAndDeleted(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "groups: listed, described, lag, reset while empty, offsets and groups deleted")
	ctx, address := kit.Context(t), kit.Kafka(t)
	admin := kadm.NewClient(franz(t, address))
	topic, group := newTopic(t, address, "groups", 1), kit.Name("groups")
	fill(t, address, topic, 10)
	consume := func(n int) []*kgo.Record {
		member := franz(t, address, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.ClientID("the-client"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		records := read(t, member, n)
		kit.Check(t, member.CommitUncommittedOffsets(ctx), "commit")
		described := settled(t, address, group, 1, 1)
		if described.Members[0].ClientID != "the-client" || described.ProtocolType != "consumer" {
			t.Errorf("described as %+v", described)
		}
		if response, err := admin.DeleteGroup(ctx, group); err == nil && response.Err == nil {
			t.Error("a group with members was deleted")
		}
		if deleted, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}}); err == nil && !errors.Is(deleted.Error(), kerr.GroupSubscribedToTopic) {
			t.Errorf("offsets of a subscribed topic: %v", deleted.Error())
		}
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, 1, -1)
		if err := admin.CommitAllOffsets(ctx, group, offsets); err == nil {
			t.Error("offsets of a group with members were reset")
		}
		kit.Check(t, member.LeaveGroupContext(ctx), "leave")
		return records
	}
	consume(10)
	kit.Eventually(t, "the group is empty and listed", func() bool {
		groups, err := admin.ListGroups(ctx, "Empty")
		return err == nil && groups[group].Group == group
	})
	reset := kadm.Offsets{}
	reset.Add(kadm.Offset{Topic: topic, Partition: 0, At: 3, LeaderEpoch: -1, Metadata: "by hand"})
	kit.Check(t, admin.CommitAllOffsets(ctx, group, reset), "reset")
	fetched, err := admin.FetchOffsets(ctx, group)
	kit.Check(t, err, "fetch offsets")
	if got := fetched[topic][0]; got.At != 3 || got.Metadata != "by hand" {
		t.Errorf("committed %+v", got.Offset)
	}
	lags, err := admin.Lag(ctx, group)
	kit.Check(t, err, "lag")
	if lag := lags[group].Lag.Total(); lag != 7 {
		t.Errorf("the lag is %d", lag)
	}
	if records := consume(7); records[0].Offset != 3 {
		t.Errorf("after the reset reading begins at %d", records[0].Offset)
	}
	deleted, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, errors.Join(err, deleted.Error()), "delete offsets")
	fetched, err = admin.FetchOffsets(ctx, group)
	if _, known := fetched.Lookup(topic, 0); err != nil || known {
		t.Errorf("after the offsets were deleted: %v, %v", fetched, err)
	}
	kit.Check(t, admin.CommitAllOffsets(ctx, group, reset), "commit once more")
	_, err = admin.DeleteGroup(ctx, group)
	kit.Check(t, err, "delete")
	if response, err := admin.DeleteGroup(ctx, group); !errors.Is(errors.Join(err, response.Err), kerr.GroupIDNotFound) {
		t.Errorf("delete again: %v, %v", response.Err, err)
	}
}

func TestFranzTheClusterAnswersAsOneNode(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "cluster, log directories, producers, leader epochs, elections, reassignments and quorum as one node answers them")
	ctx, address := kit.Context(t), kit.Kafka(t)
	client := franz(t, address)
	admin := kadm.NewClient(client)
	topic := newTopic(t, address, "cluster", 1)
	fill(t, address, topic, 10)
	metadata, err := admin.Metadata(ctx, topic)
	kit.Check(t, err, "metadata")
	if len(metadata.Brokers) != 1 || metadata.Controller != metadata.Brokers[0].NodeID || metadata.Cluster == "" {
		t.Errorf("metadata %+v", metadata)
	}
	node := metadata.Brokers[0].NodeID
	if leader := metadata.Topics[topic].Partitions[0].Leader; leader != node {
		t.Errorf("the leader is %d, the node %d", leader, node)
	}
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, client)
	if err != nil || cluster.ErrorCode != 0 || cluster.ClusterID != metadata.Cluster || len(cluster.Brokers) != 1 {
		t.Errorf("cluster %+v, %v", cluster, err)
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, err, "log directories")
	size := int64(0)
	dirs.Each(func(dir kadm.DescribedLogDir) { size += dir.Size() })
	if size < 100 {
		t.Errorf("ten records take %d bytes", size)
	}
	producers, err := admin.DescribeProducers(ctx, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, err, "producers")
	if known := producers.SortedProducers(); len(known) != 1 || known[0].LastSequence != 9 {
		t.Errorf("producers %+v", known)
	}
	epochs := kadm.OffsetForLeaderEpochRequest{}
	epochs.Add(topic, 0, metadata.Topics[topic].Partitions[0].LeaderEpoch)
	ends, err := admin.OffsetForLeaderEpoch(ctx, epochs)
	kit.Check(t, err, "leader epochs")
	if end := ends[topic][0]; end.Err != nil || end.EndOffset != 10 {
		t.Errorf("the epoch ends %+v", end)
	}
	elected, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, err, "elect")
	if result := elected[topic][0]; !errors.Is(result.Err, kerr.ElectionNotNeeded) {
		t.Errorf("election: %v", result.Err)
	}
	moving, err := admin.ListPartitionReassignments(ctx, nil)
	if err != nil || len(moving) != 0 {
		t.Errorf("reassignments %v, %v", moving, err)
	}
	quorum := kmsg.NewPtrDescribeQuorumRequest()
	quorum.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}
	voters, err := quorum.RequestWith(ctx, client)
	if err != nil || voters.ErrorCode != 0 || len(voters.Topics) != 1 || len(voters.Topics[0].Partitions[0].CurrentVoters) != 1 {
		t.Errorf("quorum %+v, %v", voters, err)
	}
	partitions := kmsg.NewPtrDescribeTopicPartitionsRequest()
	partitions.ResponsePartitionLimit = 100
	partitions.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: topic}}
	described, err := partitions.RequestWith(ctx, client)
	if err != nil || len(described.Topics) != 1 || len(described.Topics[0].Partitions) != 1 || described.Topics[0].Partitions[0].LeaderID != node {
		t.Errorf("partitions %+v, %v", described, err)
	}
}
