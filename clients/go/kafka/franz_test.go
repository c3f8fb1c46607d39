// Package kafka_test shows what Go's Kafka clients see of the broker.
package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wiremill/clients/kit"
)

func franz(t testing.TB, address string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address)}, opts...)...)
	kit.Check(t, err, "make a client")
	t.Cleanup(client.Close)
	return client
}

func newTopic(t testing.TB, address, prefix string, partitions int32) string {
	t.Helper()
	topic := kit.Name(prefix)
	_, err := kadm.NewClient(franz(t, address)).CreateTopic(kit.Context(t), partitions, -1, nil, topic)
	kit.Check(t, err, "create "+topic)
	return topic
}

// read polls until n records have come.
func read(t testing.TB, client *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := kit.Context(t)
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func TestFranzRecordsComeBackAsSentWithEveryCodec(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "records come back as sent, compressed with gzip, snappy, lz4 and zstd")
	address := kit.Kafka(t)
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t, address, "codec-"+name, 1)
			producer := franz(t, address, kgo.ProducerBatchCompression(codec))
			var sent []*kgo.Record
			firstMs := anHourAgo()
			for i := range 200 {
				sent = append(sent, &kgo.Record{
					Topic: topic, Key: fmt.Appendf(nil, "key-%d", i%7), Value: bytes.Repeat([]byte{byte(i)}, i*10),
					Headers:   []kgo.RecordHeader{{Key: "n", Value: fmt.Append(nil, i)}, {Key: "empty", Value: nil}},
					Timestamp: time.UnixMilli(firstMs + int64(i)),
				})
			}
			sent = append(sent, &kgo.Record{Topic: topic, Key: []byte("tombstone"), Value: nil}, &kgo.Record{Topic: topic, Value: []byte("no key")})
			kit.Check(t, producer.ProduceSync(kit.Context(t), sent...).FirstErr(), "produce")
			got := read(t, franz(t, address, kgo.ConsumeTopics(topic)), len(sent))
			for i, want := range sent {
				sameRecord(t, got[i], want, int64(i))
			}
		})
	}
}

func sameRecord(t *testing.T, got, want *kgo.Record, offset int64) {
	t.Helper()
	if got.Offset != offset {
		t.Fatalf("record %d came as offset %d", offset, got.Offset)
	}
	if !bytes.Equal(got.Key, want.Key) || !bytes.Equal(got.Value, want.Value) || (got.Value == nil) != (want.Value == nil) || (got.Key == nil) != (want.Key == nil) {
		t.Fatalf("record %d: key %q value of %d bytes came as %q, %d bytes", offset, want.Key, len(want.Value), got.Key, len(got.Value))
	}
	if !got.Timestamp.Equal(want.Timestamp.Truncate(time.Millisecond)) {
		t.Fatalf("record %d: time %v came as %v", offset, want.Timestamp, got.Timestamp)
	}
	if len(got.Headers) != len(want.Headers) {
		t.Fatalf("record %d: %d headers came as %d", offset, len(want.Headers), len(got.Headers))
	}
	for i, header := range want.Headers {
		if got.Headers[i].Key != header.Key || !bytes.Equal(got.Headers[i].Value, header.Value) {
			t.Fatalf("record %d: header %v came as %v", offset, header, got.Headers[i])
		}
	}
}

func TestFranzEveryAckLevelStoresTheRecord(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "records sent with acks 0, 1 and all are stored")
	address := kit.Kafka(t)
	for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		t.Run(name, func(t *testing.T) {
			topic := newTopic(t, address, "acks", 1)
			opts := []kgo.Opt{kgo.RequiredAcks(acks)}
			if name != "all" {
				opts = append(opts, kgo.DisableIdempotentWrite())
			}
			producer := franz(t, address, opts...)
			for i := range 20 {
				record := &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)}
				kit.Check(t, producer.ProduceSync(kit.Context(t), record).FirstErr(), "produce")
			}
			for i, record := range read(t, franz(t, address, kgo.ConsumeTopics(topic)), 20) {
				if string(record.Value) != fmt.Sprint(i) {
					t.Fatalf("record %d says %q", i, record.Value)
				}
			}
		})
	}
}

func TestFranzAFetchFromTheMiddleOfABatchLosesNothing(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "reading may begin in the middle of a batch")
	address := kit.Kafka(t)
	topic := newTopic(t, address, "middle", 1)
	var batch []*kgo.Record
	for i := range 100 {
		batch = append(batch, &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)})
	}
	producer := franz(t, address, kgo.ProducerLinger(200*time.Millisecond))
	kit.Check(t, producer.ProduceSync(kit.Context(t), batch...).FirstErr(), "produce")
	for _, start := range []int64{0, 1, 50, 99} {
		from := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(start)}}
		first := read(t, franz(t, address, kgo.ConsumePartitions(from)), 1)[0]
		if first.Offset != start {
			t.Errorf("asked for %d, the first record is %d", start, first.Offset)
		}
	}
}

// fetches counts those that are sent and not answered.
type fetches struct{ atomic.Int64 }

func (f *fetches) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == kmsg.Fetch.Int16() && err == nil {
		f.Add(1)
	}
}

func (f *fetches) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == kmsg.Fetch.Int16() {
		f.Add(-1)
	}
}

func TestFranzALongPollEndsWhenARecordArrives(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "a waiting fetch is woken by a new record")
	address := kit.Kafka(t)
	topic := newTopic(t, address, "poll", 1)
	var waiting fetches
	consumer := franz(t, address, kgo.ConsumeTopics(topic), kgo.FetchMaxWait(20*time.Second), kgo.WithHooks(&waiting))
	producer := franz(t, address)
	produce := func() {
		kit.Check(t, producer.ProduceSync(kit.Context(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(), "produce")
	}
	produce()
	read(t, consumer, 1)
	kit.Eventually(t, "the next fetch waits at the end of the log", func() bool { return waiting.Load() == 1 })
	began := time.Now()
	produce()
	read(t, consumer, 1)
	if waited := time.Since(began); waited > 15*time.Second {
		t.Fatalf("the record came after %v of a poll of 20 s", waited)
	}
}

func TestFranzRecordsBeyondTheTopicsLimitAreRefused(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "a batch above max.message.bytes is refused, and the next one is stored")
	address := kit.Kafka(t)
	topic := kit.Name("limit")
	limit := "2000"
	_, err := kadm.NewClient(franz(t, address)).CreateTopic(kit.Context(t), 1, -1, map[string]*string{"max.message.bytes": &limit}, topic)
	kit.Check(t, err, "create")
	producer := franz(t, address, kgo.ProducerBatchCompression(kgo.NoCompression()))
	send := func(size int) error {
		return producer.ProduceSync(kit.Context(t), &kgo.Record{Topic: topic, Value: make([]byte, size)}).FirstErr()
	}
	if err := send(3000); !errors.Is(err, kerr.MessageTooLarge) {
		t.Fatalf("3,000 bytes: %v", err)
	}
	kit.Check(t, send(1000), "1,000 bytes")
}

func TestFranzAnUnknownTopicIsMadeOnlyWhenAllowed(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "topics are created on first use where the client allows it, and only there")
	address := kit.Kafka(t)
	topic := kit.Name("auto")
	strict := franz(t, address, kgo.UnknownTopicRetries(1))
	if err := strict.ProduceSync(kit.Context(t), &kgo.Record{Topic: topic}).FirstErr(); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Fatalf("without permission: %v", err)
	}
	lenient := franz(t, address, kgo.AllowAutoTopicCreation())
	kit.Check(t, lenient.ProduceSync(kit.Context(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(), "with permission")
	if got := read(t, franz(t, address, kgo.ConsumeTopics(topic)), 1); string(got[0].Value) != "x" {
		t.Fatalf("read %q", got[0].Value)
	}
}

func TestFranzARecreatedTopicIsANewOne(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "a deleted and re-created topic has a new id and none of the old records")
	address := kit.Kafka(t)
	ctx := kit.Context(t)
	admin := kadm.NewClient(franz(t, address))
	topic := newTopic(t, address, "again", 1)
	describe := func() kadm.TopicDetail {
		details, err := admin.ListTopics(ctx, topic)
		kit.Check(t, err, "list")
		return details[topic]
	}
	old := describe().ID
	kit.Check(t, franz(t, address).ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("old")}).FirstErr(), "produce")
	_, err := admin.DeleteTopic(ctx, topic)
	kit.Check(t, err, "delete")
	kit.Eventually(t, "the topic is gone", func() bool { return describe().Err == kerr.UnknownTopicOrPartition })
	kit.Eventually(t, "it is created again", func() bool {
		_, err := admin.CreateTopic(ctx, 1, -1, nil, topic)
		return err == nil
	})
	kit.Eventually(t, "the new topic has a leader", func() bool { return describe().Err == nil && describe().Partitions[0].Err == nil })
	if id := describe().ID; id == old || id == (kadm.TopicID{}) {
		t.Fatalf("the id was %v and is %v", old, id)
	}
	kit.Check(t, franz(t, address).ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("new")}).FirstErr(), "produce")
	first := read(t, franz(t, address, kgo.ConsumeTopics(topic)), 1)[0]
	if first.Offset != 0 || string(first.Value) != "new" {
		t.Fatalf("the first record is %q at %d", first.Value, first.Offset)
	}
}

func TestFranzOffsetsOutsideTheLogAreReset(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "an offset outside the log is refused, and the client's reset policy takes over")
	address := kit.Kafka(t)
	topic := newTopic(t, address, "range", 1)
	kit.Check(t, franz(t, address).ProduceSync(kit.Context(t), &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(), "produce")
	from := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(1_000)}}
	strict := franz(t, address, kgo.ConsumePartitions(from), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	ctx, cancel := context.WithTimeout(kit.Context(t), 20*time.Second)
	defer cancel()
	if err := strict.PollFetches(ctx).Err(); err == nil || ctx.Err() != nil {
		t.Fatalf("offset 1,000 of 1: %v", err)
	}
	lenient := franz(t, address, kgo.ConsumePartitions(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if got := read(t, lenient, 1); got[0].Offset != 0 {
		t.Fatalf("reset to %d", got[0].Offset)
	}
}
