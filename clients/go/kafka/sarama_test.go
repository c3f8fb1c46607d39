package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"wiremill/clients/kit"
)

// saramaVersions are releases whose protocol this client is told to speak: the oldest that brokers of
// today serve, and the newest it knows.
var saramaVersions = []sarama.KafkaVersion{sarama.V2_1_0_0, sarama.V2_4_0_0, sarama.V2_8_0_0, sarama.V3_3_0_0, sarama.MaxVersion}

func saramaConfig(version sarama.KafkaVersion) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = version
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Metadata.AllowAutoTopicCreation = false
	return config
}

func TestSaramaSpeaksEveryReleaseItIsPinnedTo(t *testing.T) {
	t.Parallel()
	for _, version := range saramaVersions {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			kit.Shows(t, kit.Sarama, fmt.Sprintf("produce, group consume, commit and administer as a client of Kafka %s", version))
			saramaRoundTrip(t, version)
		})
	}
}

func saramaRoundTrip(t *testing.T, version sarama.KafkaVersion) {
	address, topic, group := kit.Kafka(t), kit.Name("sarama"), kit.Name("sarama")
	admin, err := sarama.NewClusterAdmin([]string{address}, saramaConfig(version))
	kit.Check(t, err, "connect")
	defer admin.Close()
	kit.Check(t, admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false), "create")
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1}, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		t.Errorf("create again: %v", err)
	}
	producer, err := sarama.NewSyncProducer([]string{address}, saramaConfig(version))
	kit.Check(t, err, "make a producer")
	for i := range 30 {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(fmt.Sprint(i % 5)), Value: sarama.StringEncoder(fmt.Sprint(i)),
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("v")}},
		})
		kit.Check(t, err, "send")
	}
	kit.Check(t, producer.Close(), "close the producer")
	seen := saramaConsume(t, saramaConfig(version), address, group, topic, 30)
	for i := range 30 {
		if seen[fmt.Sprint(i)] != 1 {
			t.Errorf("%d came %d times", i, seen[fmt.Sprint(i)])
		}
	}
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2}})
	kit.Check(t, err, "list offsets")
	total := int64(0)
	for partition := range int32(3) {
		if block := offsets.GetBlock(topic, partition); block != nil && block.Offset > 0 {
			total += block.Offset
		}
	}
	if total != 30 {
		t.Errorf("committed %d of 30", total)
	}
	kit.Check(t, admin.DeleteConsumerGroup(group), "delete the group")
	kit.Check(t, admin.DeleteTopic(topic), "delete the topic")
}

// collector hands on what one session delivers.
type collector struct{ got chan *sarama.ConsumerMessage }

func (c *collector) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (c *collector) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c *collector) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			c.got <- message
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func saramaConsume(t *testing.T, config *sarama.Config, address, group, topic string, want int) map[string]int {
	member, err := sarama.NewConsumerGroup([]string{address}, group, config)
	kit.Check(t, err, "make a member")
	ctx, cancel := context.WithCancel(kit.Context(t))
	defer cancel()
	handler := &collector{got: make(chan *sarama.ConsumerMessage)}
	ended := make(chan error, 1)
	go func() { ended <- member.Consume(ctx, []string{topic}, handler) }()
	seen, last := map[string]int{}, map[string]int64{}
	for range want {
		select {
		case message := <-handler.got:
			seen[string(message.Value)]++
			if before, known := last[string(message.Key)]; known && message.Offset <= before {
				t.Errorf("key %s: offset %d after %d", message.Key, message.Offset, before)
			}
			last[string(message.Key)] = message.Offset
			if len(message.Headers) != 1 || string(message.Headers[0].Value) != "v" {
				t.Errorf("headers came as %v", message.Headers)
			}
		case <-ctx.Done():
			t.Fatalf("only %d of %d messages came", len(seen), want)
		case err := <-ended:
			t.Fatalf("the session ended: %v", err)
		}
	}
	cancel()
	kit.Check(t, <-ended, "end the session")
	kit.Check(t, member.Close(), "close the member")
	return seen
}

func TestSaramaAnIdempotentProducerWritesEachMessageOnce(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Sarama, "an idempotent producer stores each message once, in order")
	address := kit.Kafka(t)
	topic := newTopic(t, address, "sarama-idempotent", 1)
	config := saramaConfig(sarama.MaxVersion)
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Retry.Max = 20
	producer, err := sarama.NewAsyncProducer([]string{address}, config)
	kit.Check(t, err, "make a producer")
	go func() {
		for i := range 1_000 {
			producer.Input() <- &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i))}
		}
		producer.AsyncClose()
	}()
	acknowledged := 0
	successes, failures := producer.Successes(), producer.Errors()
	for successes != nil || failures != nil {
		select {
		case _, open := <-successes:
			if !open {
				successes = nil
				continue
			}
			acknowledged++
		case failure, open := <-failures:
			if !open {
				failures = nil
				continue
			}
			t.Errorf("%v", failure)
		}
	}
	for i, record := range read(t, franz(t, address, kgo.ConsumeTopics(topic)), acknowledged) {
		if string(record.Value) != fmt.Sprint(i) {
			t.Fatalf("record %d says %q", i, record.Value)
		}
	}
}
