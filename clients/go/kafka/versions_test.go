package kafka_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"wiremill/clients/kit"
)

// span is the range of versions of one API that brokers of today serve and this client can speak.
type span struct {
	key      kmsg.Key
	min, max int16
}

// dataPath is every API that a producer and a member of a classic group call.
var dataPath = []span{
	{kmsg.Produce, 3, 13}, {kmsg.Fetch, 4, 18}, {kmsg.ListOffsets, 1, 11}, {kmsg.Metadata, 1, 13},
	{kmsg.OffsetCommit, 2, 10}, {kmsg.OffsetFetch, 1, 10}, {kmsg.FindCoordinator, 0, 6}, {kmsg.JoinGroup, 0, 9},
	{kmsg.Heartbeat, 0, 4}, {kmsg.LeaveGroup, 0, 5}, {kmsg.SyncGroup, 0, 5}, {kmsg.InitProducerID, 0, 5},
}

// adminPath is what administers topics, settings and groups.
var adminPath = []span{
	{kmsg.CreateTopics, 2, 7}, {kmsg.DeleteTopics, 1, 6}, {kmsg.CreatePartitions, 0, 3}, {kmsg.DeleteRecords, 0, 2},
	{kmsg.DescribeConfigs, 1, 4}, {kmsg.AlterConfigs, 0, 2}, {kmsg.IncrementalAlterConfigs, 0, 1},
	{kmsg.DescribeGroups, 0, 6}, {kmsg.ListGroups, 0, 5}, {kmsg.DeleteGroups, 0, 2}, {kmsg.OffsetDelete, 0, 0},
	{kmsg.OffsetForLeaderEpoch, 2, 4}, {kmsg.DescribeLogDirs, 1, 4}, {kmsg.ElectLeaders, 0, 2},
	{kmsg.DescribeCluster, 0, 2}, {kmsg.DescribeProducers, 0, 0}, {kmsg.DescribeQuorum, 0, 2},
	{kmsg.DescribeTopicPartitions, 0, 0}, {kmsg.ListPartitionReassignments, 0, 0}, {kmsg.ListConfigResources, 0, 1},
	{kmsg.DescribeUserSCRAMCredentials, 0, 0}, {kmsg.AlterPartitionAssignments, 0, 1},
}

// pinned keeps one API at a version.
func pinned(key kmsg.Key, version int16) kgo.Opt {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(key), version)
	return kgo.MaxVersions(versions)
}

// wiretap notes the API and version of each request that leaves through its connections.
type wiretap struct {
	mu   sync.Mutex
	seen map[[2]int16]bool
}

type tapped struct {
	net.Conn
	tap *wiretap
}

func (w *wiretap) dial(ctx context.Context, network, host string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
	return tapped{conn, w}, err
}

// Write sees whole requests: the client writes each with one call.
func (c tapped) Write(request []byte) (int, error) {
	if len(request) >= 8 {
		c.tap.mu.Lock()
		c.tap.seen[[2]int16{int16(binary.BigEndian.Uint16(request[4:])), int16(binary.BigEndian.Uint16(request[6:]))}] = true
		c.tap.mu.Unlock()
	}
	return c.Conn.Write(request)
}

func TestFranzEveryVersionOfTheDataPathWorks(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "every version of the produce, fetch and classic group APIs that Kafka 4.2 serves")
	everyVersion(t, dataPath, produceAndConsumeInAGroup)
}

func TestFranzEveryVersionOfTheAdminPathWorks(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "every version of the admin APIs that Kafka 4.2 serves")
	everyVersion(t, adminPath, administer)
}

// everyVersion does the same with clients pinned one version higher each, and makes sure that every
// version of every API was sent.
func everyVersion(t *testing.T, apis []span, do func(*testing.T, string, ...kgo.Opt)) {
	steps := int16(0)
	for _, api := range apis {
		steps = max(steps, api.max-api.min+1)
	}
	tap := &wiretap{seen: map[[2]int16]bool{}}
	t.Run("steps", func(t *testing.T) {
		for step := range steps {
			t.Run(fmt.Sprintf("minimum+%d", step), func(t *testing.T) {
				t.Parallel()
				versions := kversion.Stable()
				for _, api := range apis {
					versions.SetMaxKeyVersion(int16(api.key), min(api.min+step, api.max))
				}
				do(t, kit.Kafka(t), kgo.MaxVersions(versions), kgo.Dialer(tap.dial))
			})
		}
	})
	for _, api := range apis {
		for version := api.min; version <= api.max; version++ {
			if !tap.seen[[2]int16{int16(api.key), version}] {
				t.Errorf("%s v%d was never sent", api.key.Name(), version)
			}
		}
	}
}

func produceAndConsumeInAGroup(t *testing.T, address string, opts ...kgo.Opt) {
	topic := newTopic(t, address, "versions", 2)
	group := kit.Name("versions")
	ctx := kit.Context(t)
	producer := franz(t, address, opts...)
	for i := range 10 {
		record := &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)}
		kit.Check(t, producer.ProduceSync(ctx, record).FirstErr(), "produce")
	}
	member := append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(100 * time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, opts...)
	consumer := franz(t, address, member...)
	seen := map[string]int{}
	for _, record := range read(t, consumer, 10) {
		seen[string(record.Value)]++
	}
	if len(seen) != 10 {
		t.Fatalf("read %v", seen)
	}
	kit.Check(t, consumer.CommitUncommittedOffsets(ctx), "commit")
	time.Sleep(300 * time.Millisecond)
	kit.Check(t, consumer.LeaveGroupContext(ctx), "leave")
	committed, err := kadm.NewClient(franz(t, address)).FetchOffsets(ctx, group)
	kit.Check(t, err, "fetch offsets")
	total := int64(0)
	committed.Each(func(offset kadm.OffsetResponse) { total += offset.At })
	if total != 10 {
		t.Fatalf("committed %d of 10", total)
	}
	// The next member goes on where the first one stopped.
	next := franz(t, address, member...)
	kit.Check(t, producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("next")}).FirstErr(), "produce")
	if got := read(t, next, 1); string(got[0].Value) != "next" {
		t.Fatalf("the next member began with %q", got[0].Value)
	}
}
