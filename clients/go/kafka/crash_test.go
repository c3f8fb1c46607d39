package kafka_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wiremill/clients/kit"
)

// hasty comes back as soon as the broker does.
var hasty = kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })

const (
	crashRounds     = 20
	crashPartitions = 6
)

func TestFranzTwentyKillsUnderLoadLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "twenty kill -9 under load: every acknowledged record of two idempotent producers is there once, in order per key")
	broker := kit.StartBroker(t)
	topic, group := newTopic(t, broker.Kafka, "crash", crashPartitions), kit.Name("crash")
	var stop atomic.Bool
	var writers sync.WaitGroup
	acked := make([]ackLog, 2)
	for i := range acked {
		writers.Go(func() { acked[i].write(t, broker.Kafka, topic, i, &stop) })
	}
	delivered := newDeliveries()
	reader := quietReader(t, broker.Kafka, group, topic, delivered)
	for round := range crashRounds {
		floor := acked[0].count.Load() + acked[1].count.Load()
		kit.Eventually(t, fmt.Sprintf("round %d: records are acknowledged", round), func() bool {
			return acked[0].count.Load()+acked[1].count.Load() > floor+100
		})
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		broker.Kill()
		broker.Start()
	}
	stop.Store(true)
	writers.Wait()
	checkLog(t, broker.Kafka, topic, acked)
	awaitCommit(t, broker.Kafka, group, topic)
	reader.Close()
	delivered.check(t, acked)
}

// ackLog is what one producer was told is stored.
type ackLog struct {
	count atomic.Int64
	mu    sync.Mutex
	// values by partition and offset, as acknowledged
	at map[string]string
}

func (l *ackLog) write(t *testing.T, address, topic string, producer int, stop *atomic.Bool) {
	l.at = map[string]string{}
	client := franz(t, address, kgo.RecordDeliveryTimeout(kit.Patience), kgo.MaxBufferedRecords(500),
		hasty, kgo.MetadataMinAge(50*time.Millisecond), kgo.ProducerLinger(time.Millisecond))
	for n := 0; !stop.Load(); n++ {
		key := n % 20
		record := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "%d-%d", producer, key), Value: fmt.Appendf(nil, "%d-%d:%d", producer, key, n)}
		client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
			if err != nil {
				t.Errorf("producer %d: %v", producer, err)
				return
			}
			l.mu.Lock()
			l.at[place(record)] = string(record.Value)
			l.mu.Unlock()
			l.count.Add(1)
		})
		if n%50 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	kit.Check(t, client.Flush(context.Background()), "flush")
}

func place(record *kgo.Record) string { return fmt.Sprintf("%d/%d", record.Partition, record.Offset) }

// checkLog reads the whole topic: what was acknowledged is where it was said to be, once, and the
// numbers of each key only rise.
func checkLog(t *testing.T, address, topic string, acked []ackLog) {
	ends, err := kadm.NewClient(franz(t, address)).ListEndOffsets(kit.Context(t), topic)
	kit.Check(t, err, "end offsets")
	total := int64(0)
	ends.Each(func(end kadm.ListedOffset) { total += end.Offset })
	stored := map[string]string{}
	times := map[string]int{}
	last := map[string]int{}
	for _, record := range read(t, franz(t, address, kgo.ConsumeTopics(topic)), int(total)) {
		stored[place(record)] = string(record.Value)
		times[string(record.Value)]++
		key, number, _ := strings.Cut(string(record.Value), ":")
		var n int
		if _, err := fmt.Sscan(number, &n); err != nil || key != string(record.Key) {
			t.Fatalf("%s holds %q for key %q", place(record), record.Value, record.Key)
		}
		if before, known := last[key]; known && n <= before {
			t.Errorf("key %s: %d after %d", key, n, before)
		}
		last[key] = n
	}
	checked := 0
	for producer := range acked {
		for at, value := range acked[producer].at {
			checked++
			if stored[at] != value || times[value] != 1 {
				t.Errorf("%q was acknowledged at %s: %q is there, and it is in the log %d times", value, at, stored[at], times[value])
			}
		}
	}
	if checked < 2_000 {
		t.Errorf("only %d acknowledged records were checked", checked)
	}
	t.Logf("%d acknowledged records checked among %d stored", checked, total)
}

// deliveries is what the group's member was given: at least once each, and never another value at an
// offset that was seen before.
type deliveries struct {
	mu sync.Mutex
	at map[string]string
	// changed lists offsets that showed two different values
	changed []string
}

func newDeliveries() *deliveries { return &deliveries{at: map[string]string{}} }

func (d *deliveries) add(record *kgo.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if before, known := d.at[place(record)]; known && before != string(record.Value) {
		d.changed = append(d.changed, fmt.Sprintf("%s was %q and is %q", place(record), before, record.Value))
	}
	d.at[place(record)] = string(record.Value)
}

func (d *deliveries) check(t *testing.T, acked []ackLog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, change := range d.changed {
		t.Errorf("a consumer saw what a crash took back: %s", change)
	}
	for producer := range acked {
		for at, value := range acked[producer].at {
			if d.at[at] != value {
				t.Errorf("%q was acknowledged at %s; the group was given %q", value, at, d.at[at])
			}
		}
	}
}

func quietReader(t *testing.T, address, group, topic string, delivered *deliveries) *kgo.Client {
	client := franz(t, address, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.AutoCommitInterval(100*time.Millisecond), kgo.AutoCommitMarks(), kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond),
		hasty, kgo.MetadataMinAge(50*time.Millisecond))
	go func() {
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			for _, record := range fetches.Records() {
				delivered.add(record)
			}
			client.MarkCommitRecords(fetches.Records()...)
		}
	}()
	return client
}

func awaitCommit(t *testing.T, address, group, topic string) {
	admin := kadm.NewClient(franz(t, address))
	kit.Eventually(t, "the group has committed everything", func() bool {
		lags, err := admin.Lag(t.Context(), group)
		lag := lags[group]
		return err == nil && lag.Error() == nil && lag.Lag.Total() == 0 && len(lag.Lag[topic]) == crashPartitions
	})
}

// A producer that a restarted broker has forgotten would be given a second copy's success.
func TestFranzARepeatedBatchIsStoredOnceAcrossARestart(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "a batch sent again after a restart is answered with its first offset and stored once")
	broker := kit.StartBroker(t)
	topic := newTopic(t, broker.Kafka, "again", 1)
	ctx := kit.Context(t)
	producer := franz(t, broker.Kafka)
	request := kmsg.NewPtrInitProducerIDRequest()
	identity, err := request.RequestWith(ctx, producer)
	kit.Check(t, err, "producer id")
	send := func(sequence int32) kmsg.ProduceResponseTopicPartition {
		response, err := rawBatch(topic, identity.ProducerID, identity.ProducerEpoch, sequence).RequestWith(ctx, franz(t, broker.Kafka, pinned(kmsg.Produce, 9)))
		kit.Check(t, err, "produce")
		return response.Topics[0].Partitions[0]
	}
	first, second := send(0), send(1)
	if first.ErrorCode != 0 || second.ErrorCode != 0 || second.BaseOffset != first.BaseOffset+1 {
		t.Fatalf("%+v, %+v", first, second)
	}
	broker.Kill()
	broker.Start()
	if again := send(1); again.ErrorCode != 0 || again.BaseOffset != second.BaseOffset {
		t.Errorf("the repeat was answered %+v, the first time %+v", again, second)
	}
	if gap := send(3); gap.ErrorCode != kerr.OutOfOrderSequenceNumber.Code {
		t.Errorf("a gap was answered %+v", gap)
	}
	if next := send(2); next.ErrorCode != 0 || next.BaseOffset != second.BaseOffset+1 {
		t.Errorf("the next batch was answered %+v", next)
	}
}
