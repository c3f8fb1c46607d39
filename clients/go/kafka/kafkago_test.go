package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"wiremill/clients/kit"
)

func kafkaGoWriter(t testing.TB, address, topic string) *kafka.Writer {
	writer := &kafka.Writer{
		Addr: kafka.TCP(address), Topic: topic, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll,
		MaxAttempts: 5, BatchTimeout: 5 * time.Millisecond, Transport: &kafka.Transport{},
	}
	t.Cleanup(func() { kit.Check(t, writer.Close(), "close the writer") })
	return writer
}

func kafkaGoReader(t testing.TB, address, group, topic string, start int64) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{address}, GroupID: group, Topic: topic, CommitInterval: 0, StartOffset: start,
		MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 200 * time.Millisecond, HeartbeatInterval: 200 * time.Millisecond,
		JoinGroupBackoff: 200 * time.Millisecond,
	})
}

func TestKafkaGoAGroupReaderGoesOnAfterItsCommits(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.KafkaGo, "hash-balanced writer and group reader that commits after processing: per-key order, nothing lost, nothing again")
	address, ctx := kit.Kafka(t), kit.Context(t)
	topic, group := newTopic(t, address, "orders", 4), kit.Name("workers")
	writer := kafkaGoWriter(t, address, topic)
	// A group that starts at the end sees what comes after its first assignment, and nothing older.
	kit.Check(t, writer.WriteMessages(ctx, kafka.Message{Key: []byte("old"), Value: []byte("old")}), "write")
	first := kafkaGoReader(t, address, group, topic, kafka.LastOffset)
	awaitKafkaGoReader(t, writer, first, 4)
	write := func(from, to int) {
		var messages []kafka.Message
		for n := from; n < to; n++ {
			messages = append(messages, kafka.Message{Key: fmt.Appendf(nil, "user-%d", n%10), Value: fmt.Append(nil, n)})
		}
		kit.Check(t, writer.WriteMessages(ctx, messages...), "write")
	}
	last := map[string]int{}
	process := func(reader *kafka.Reader, count int) {
		for count > 0 {
			message, err := reader.FetchMessage(ctx)
			kit.Check(t, err, "fetch")
			if string(message.Value) == probe {
				continue
			}
			count--
			var n int
			_, err = fmt.Sscan(string(message.Value), &n)
			kit.Check(t, err, fmt.Sprintf("read %q", message.Value))
			key := string(message.Key)
			if want := last[key] + 10; last[key] != 0 && n != want {
				t.Errorf("%s: %d after %d", key, n, last[key])
			}
			last[key] = n
			kit.Check(t, reader.CommitMessages(ctx, message), "commit")
		}
	}
	write(100, 300)
	process(first, 150)
	kit.Check(t, first.Close(), "close")
	second := kafkaGoReader(t, address, group, topic, kafka.LastOffset)
	process(second, 50)
	write(300, 400)
	process(second, 100)
	kit.Check(t, second.Close(), "close")
}

const probe = "probe"

// awaitKafkaGoReader returns when the reader reads from every partition: one that starts at the end misses what is
// written before it has looked where the end is.
func awaitKafkaGoReader(t testing.TB, writer *kafka.Writer, reader *kafka.Reader, partitions int) {
	t.Helper()
	reads := map[int]bool{}
	kit.Eventually(t, "the reader reads from every partition", func() bool {
		var probes []kafka.Message
		for n := range 10 {
			probes = append(probes, kafka.Message{Key: fmt.Appendf(nil, "user-%d", n), Value: []byte(probe)})
		}
		kit.Check(t, writer.WriteMessages(kit.Context(t), probes...), "write probes")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		for len(reads) < partitions {
			message, err := reader.FetchMessage(ctx)
			if err != nil {
				return false
			}
			if string(message.Value) != probe {
				t.Fatalf("%q is from before the first assignment", message.Value)
			}
			reads[message.Partition] = true
		}
		return true
	})
}

func TestKafkaGoTightDeadlinesLoseNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.KafkaGo, "a writer with a 20 ms deadline on each publish: what it was told is stored is stored")
	address := kit.Kafka(t)
	topic := newTopic(t, address, "deadlines", 4)
	writer := kafkaGoWriter(t, address, topic)
	writer.WriteTimeout = 50 * time.Millisecond
	kit.Check(t, writer.WriteMessages(kit.Context(t), kafka.Message{Key: []byte("warm"), Value: []byte("warm")}), "warm up")
	var mu sync.Mutex
	var group sync.WaitGroup
	acknowledged, missed := map[string]bool{}, 0
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for n := range 600 {
		<-ticker.C
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			value := fmt.Append(nil, n)
			err := writer.WriteMessages(ctx, kafka.Message{Key: value, Value: value})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				acknowledged[string(value)] = true
			} else {
				missed++
			}
		})
	}
	group.Wait()
	if len(acknowledged) == 0 {
		t.Error("no publish met its deadline")
	}
	t.Logf("%d of 600 publishes missed their deadline", missed)
	reader := kafkaGoReader(t, address, kit.Name("deadlines"), topic, kafka.FirstOffset)
	ctx := kit.Context(t)
	for len(acknowledged) > 0 {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("%d acknowledged records were never read: %v", len(acknowledged), err)
		}
		delete(acknowledged, string(message.Value))
	}
	kit.Check(t, reader.Close(), "close")
}

func TestKafkaGoEveryCodec(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.KafkaGo, "records come back as sent, compressed with gzip, snappy, lz4 and zstd")
	address, ctx := kit.Kafka(t), kit.Context(t)
	topic := newTopic(t, address, "codecs", 1)
	codecs := []compress.Compression{compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd}
	for _, codec := range codecs {
		writer := kafkaGoWriter(t, address, topic)
		writer.Compression = kafka.Compression(codec)
		kit.Check(t, writer.WriteMessages(ctx, kafka.Message{
			Key: []byte("k"), Value: []byte(codec.String()), Headers: []kafka.Header{{Key: "h", Value: []byte("v")}},
		}), codec.String())
	}
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{address}, Topic: topic, MaxWait: 200 * time.Millisecond})
	for i, codec := range codecs {
		message, err := reader.ReadMessage(ctx)
		kit.Check(t, err, "read")
		if message.Offset != int64(i) || string(message.Value) != codec.String() || len(message.Headers) != 1 {
			t.Errorf("%s came as %+v", codec, message)
		}
	}
	kit.Check(t, reader.Close(), "close")
}

func TestKafkaGoLowLevelConnection(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.KafkaGo, "the low-level connection: create, write, seek by time, read a batch, delete")
	address, topic := kit.Kafka(t), kit.Name("conn")
	conn, err := kafka.Dial("tcp", address)
	kit.Check(t, err, "dial")
	defer conn.Close()
	controller, err := conn.Controller()
	kit.Check(t, err, "controller")
	if controller.Host == "" || controller.Port == 0 {
		t.Fatalf("controller %+v", controller)
	}
	admin := &kafka.Client{Addr: kafka.TCP(address), Timeout: 10 * time.Second}
	created, err := admin.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}}})
	kit.Check(t, errors.Join(err, created.Errors[topic]), "create")
	var leader *kafka.Conn
	kit.Eventually(t, "the topic has a leader", func() bool {
		leader, err = kafka.DialLeader(t.Context(), "tcp", address, topic, 0)
		return err == nil
	})
	defer leader.Close()
	kit.Check(t, leader.SetDeadline(time.Now().Add(kit.Patience)), "deadline")
	began := time.Now()
	_, err = leader.WriteMessages(kafka.Message{Value: []byte("a"), Time: began}, kafka.Message{Value: []byte("b"), Time: began.Add(time.Second)})
	kit.Check(t, err, "write")
	firstOffset, lastOffset, err := leader.ReadOffsets()
	if err != nil || firstOffset != 0 || lastOffset != 2 {
		t.Errorf("offsets %d to %d, %v", firstOffset, lastOffset, err)
	}
	at, err := leader.ReadOffset(began.Add(500 * time.Millisecond))
	if err != nil || at != 1 {
		t.Errorf("half a second later is offset %d, %v", at, err)
	}
	_, err = leader.Seek(0, kafka.SeekStart)
	kit.Check(t, err, "seek")
	batch := leader.ReadBatch(1, 1<<20)
	for _, want := range []string{"a", "b"} {
		if message, err := batch.ReadMessage(); err != nil || string(message.Value) != want {
			t.Errorf("read %q, %v, not %q", message.Value, err, want)
		}
	}
	if err := batch.Close(); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("close the batch: %v", err)
	}
	deleted, err := admin.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	kit.Check(t, errors.Join(err, deleted.Errors[topic]), "delete")
}
