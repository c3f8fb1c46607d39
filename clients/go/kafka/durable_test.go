package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"wiremill/clients/kit"
)

// syncDelay is how long each sync of the broker under test takes; an answer that comes sooner did not
// wait for one. A kill alone keeps the page cache and would prove little.
const syncDelay = 200 * time.Millisecond

func TestFranzNoDurableAnswerComesBeforeItsSync(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "no durable answer comes before its sync: produce, commit, create, grow, trim, configure, delete")
	broker := kit.StartBroker(t, "--test-sync-delay-ms", fmt.Sprint(syncDelay.Milliseconds()))
	ctx := kit.Context(t)
	client := franz(t, broker.Kafka)
	admin := kadm.NewClient(client)
	topic, group := kit.Name("durable"), kit.Name("durable")

	waits := func(what string, do func() error) {
		t.Helper()
		began := time.Now()
		kit.Check(t, do(), what)
		if took := time.Since(began); took < syncDelay {
			t.Errorf("%s was answered after %v", what, took)
		}
	}
	waits("create a topic", func() error { _, err := admin.CreateTopic(ctx, 1, -1, nil, topic); return err })
	for name, acks := range map[string]kgo.Acks{"1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		producer := franz(t, broker.Kafka, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
		send := func() error {
			return producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
		}
		kit.Check(t, send(), "connect")
		for range 3 {
			waits("produce with acks "+name, send)
		}
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 1, -1)
	for range 3 {
		waits("commit an offset", func() error { return admin.CommitAllOffsets(ctx, group, offsets) })
	}
	waits("delete an offset", func() error {
		deleted, err := admin.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: {0: {}}})
		return errors.Join(err, deleted.Error())
	})
	kit.Check(t, admin.CommitAllOffsets(ctx, group, offsets), "commit once more")
	waits("delete a group", func() error { _, err := admin.DeleteGroup(ctx, group); return err })
	waits("add a partition", func() error {
		grown, err := admin.UpdatePartitions(ctx, 2, topic)
		return errors.Join(err, grown.Error())
	})
	waits("delete records", func() error {
		trimmed, err := admin.DeleteRecords(ctx, offsets)
		return errors.Join(err, trimmed.Error())
	})
	hour := "3600000"
	waits("change a setting", func() error {
		changed, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &hour}}, topic)
		return errors.Join(err, changed[0].Err)
	})
	// The first user is one who may administer the server, and from then on everybody logs in.
	broker.Command("user", "add", "root", "--password", "long enough", "--allow", "admin:*")
	root := plain.Auth{User: "root", Pass: "long enough"}.AsMechanism()
	administrator := kadm.NewClient(franz(t, broker.Kafka, kgo.SASL(root)))
	_, err := administrator.ListTopics(ctx)
	kit.Check(t, err, "log in")
	waits("set a password", func() error {
		altered, err := administrator.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "someone", Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "long enough"}})
		return errors.Join(err, altered.Error())
	})
}

func TestFranzAGroupAnswersAfterItsSync(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "a member is given its assignment after the sync that makes it outlive a crash")
	broker := kit.StartBroker(t, "--test-sync-delay-ms", fmt.Sprint(syncDelay.Milliseconds()))
	ctx := kit.Context(t)
	topic, group := newTopic(t, broker.Kafka, "durable", 1), kit.Name("durable")
	client := franz(t, broker.Kafka)

	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis, join.ProtocolType = group, 30_000, 30_000, "consumer"
	join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription(topic)}}
	first, err := join.RequestWith(ctx, client)
	kit.Check(t, err, "join")
	join.MemberID = first.MemberID
	joined, err := join.RequestWith(ctx, client)
	kit.Check(t, err, "join with the given id")
	if joined.ErrorCode != 0 || joined.LeaderID != first.MemberID {
		t.Fatalf("joined %+v", joined)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID = group, joined.Generation, joined.MemberID
	sync.ProtocolType, sync.Protocol = joined.ProtocolType, joined.Protocol
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("the leader's words")}}
	began := time.Now()
	synced, err := sync.RequestWith(ctx, client)
	kit.Check(t, err, "sync")
	if took := time.Since(began); took < syncDelay {
		t.Errorf("the assignment was given after %v", took)
	}
	if synced.ErrorCode != 0 || string(synced.MemberAssignment) != "the leader's words" {
		t.Errorf("synced %+v", synced)
	}
	broker.Kill()
	broker.Start()
	heartbeat := kmsg.NewPtrHeartbeatRequest()
	heartbeat.Group, heartbeat.Generation, heartbeat.MemberID = group, joined.Generation, joined.MemberID
	beat, err := heartbeat.RequestWith(context.WithoutCancel(ctx), franz(t, broker.Kafka))
	if err != nil || beat.ErrorCode != 0 {
		t.Errorf("after a kill the member's heartbeat is answered %+v, %v", beat, err)
	}
}

// subscription is a member's metadata for one topic, in version 0 of the consumer protocol.
func subscription(topic string) []byte {
	metadata := kmsg.NewConsumerMemberMetadata()
	metadata.Topics = []string{topic}
	return metadata.AppendTo(nil)
}
