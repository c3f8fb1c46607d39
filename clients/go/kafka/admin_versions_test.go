package kafka_test

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wiremill/clients/kit"
)

// administer takes a topic and a group through their lives, with a client of any age.
func administer(t *testing.T, address string, opts ...kgo.Opt) {
	client := franz(t, address, opts...)
	admin := kadm.NewClient(client)
	topic, group := kit.Name("administered"), kit.Name("administered")
	administerTopic(t, admin, topic)
	fill(t, address, topic, 10)
	administerRecords(t, admin, client, topic)
	administerGroup(t, admin, group, topic)
	administerNode(t, client, topic)
	ctx := kit.Context(t)
	_, err := admin.DeleteTopic(ctx, topic)
	kit.Check(t, err, "delete the topic")
}

func administerTopic(t *testing.T, admin *kadm.Client, topic string) {
	ctx := kit.Context(t)
	hour, day := "3600000", "86400000"
	_, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": &day}, topic)
	kit.Check(t, err, "create")
	grown, err := admin.UpdatePartitions(ctx, 2, topic)
	kit.Check(t, errors.Join(err, grown.Error()), "grow")
	expect := func(value string) {
		t.Helper()
		kit.Eventually(t, "retention.ms is "+value, func() bool {
			described, err := admin.DescribeTopicConfigs(ctx, topic)
			kit.Check(t, err, "describe settings")
			for _, config := range described[0].Configs {
				if config.Key == "retention.ms" {
					return config.MaybeValue() == value
				}
			}
			return false
		})
	}
	expect(day)
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &hour}}, topic)
	kit.Check(t, errors.Join(err, altered[0].Err), "alter a setting")
	expect(hour)
	replaced, err := admin.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &day}}, topic)
	kit.Check(t, errors.Join(err, replaced[0].Err), "replace all settings")
	expect(day)
}

func administerRecords(t *testing.T, admin *kadm.Client, client *kgo.Client, topic string) {
	ctx := kit.Context(t)
	epochs := kadm.OffsetForLeaderEpochRequest{}
	epochs.Add(topic, 0, 0)
	ends, err := admin.OffsetForLeaderEpoch(ctx, epochs)
	kit.Check(t, err, "leader epochs")
	if end := ends[topic][0]; end.Err != nil || end.EndOffset != 10 {
		t.Errorf("the epoch ends %+v", end)
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, err, "log directories")
	size := int64(0)
	dirs.Each(func(dir kadm.DescribedLogDir) { size += dir.Size() })
	if size == 0 {
		t.Error("ten records take no space")
	}
	producers, err := admin.DescribeProducers(ctx, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, err, "producers")
	if known := producers.SortedProducers(); len(known) != 1 || known[0].LastSequence != 9 {
		t.Errorf("producers %+v", known)
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 4, -1)
	trimmed, err := admin.DeleteRecords(ctx, offsets)
	kit.Check(t, errors.Join(err, trimmed.Error()), "delete records")
	if low := trimmed[topic][0].LowWatermark; low != 4 {
		t.Errorf("the log begins at %d", low)
	}
	elect := kmsg.NewPtrElectLeadersRequest()
	elect.TimeoutMillis = 10_000
	elect.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	elected, err := elect.RequestWith(ctx, client)
	kit.Check(t, err, "elect")
	if code := elected.Topics[0].Partitions[0].ErrorCode; code != kerr.ElectionNotNeeded.Code {
		t.Errorf("the election was answered %v", kerr.ErrorForCode(code))
	}
}

func administerGroup(t *testing.T, admin *kadm.Client, group, topic string) {
	ctx := kit.Context(t)
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 5, -1)
	offsets.AddOffset(topic, 1, 0, -1)
	kit.Check(t, admin.CommitAllOffsets(ctx, group, offsets), "commit")
	groups, err := admin.ListGroups(ctx)
	kit.Check(t, err, "list groups")
	if _, known := groups[group]; !known {
		t.Errorf("%s is not listed", group)
	}
	described, err := admin.DescribeGroups(ctx, group)
	kit.Check(t, err, "describe")
	if state := described[group].State; state != "Empty" {
		t.Errorf("the group is %q", state)
	}
	deleted, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}})
	kit.Check(t, errors.Join(err, deleted.Error()), "delete an offset")
	_, err = admin.DeleteGroup(ctx, group)
	kit.Check(t, err, "delete the group")
}

func administerNode(t *testing.T, client *kgo.Client, topic string) {
	ctx := kit.Context(t)
	cluster, err := kmsg.NewPtrDescribeClusterRequest().RequestWith(ctx, client)
	kit.Check(t, err, "describe the cluster")
	if cluster.ErrorCode != 0 || len(cluster.Brokers) != 1 || cluster.ClusterID == "" {
		t.Errorf("cluster %+v", cluster)
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
	if err != nil || len(described.Topics) != 1 || len(described.Topics[0].Partitions) != 2 {
		t.Errorf("partitions %+v, %v", described, err)
	}
	moving := kmsg.NewPtrListPartitionReassignmentsRequest()
	moving.TimeoutMillis = 10_000
	if listed, err := moving.RequestWith(ctx, client); err != nil || listed.ErrorCode != 0 || len(listed.Topics) != 0 {
		t.Errorf("reassignments %+v, %v", listed, err)
	}
	move := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	move.TimeoutMillis = 10_000
	move.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{cluster.ControllerID}}}}}
	if moved, err := move.RequestWith(ctx, client); err != nil || moved.ErrorCode != 0 || moved.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("moved %+v, %v", moved, err)
	}
	if resources, err := kmsg.NewPtrListConfigResourcesRequest().RequestWith(ctx, client); err != nil || resources.ErrorCode != 0 {
		t.Errorf("resources %+v, %v", resources, err)
	}
	users := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	if listed, err := users.RequestWith(ctx, client); err != nil || listed.ErrorCode != 0 {
		t.Errorf("users %+v, %v", listed, err)
	}
}
