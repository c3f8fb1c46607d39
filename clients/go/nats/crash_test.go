package nats_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

// The workload that Jepsen runs against JetStream, on one node: unique values are published by several and fetched
// while the process is killed again and again.

const (
	jepsenRounds     = 8
	jepsenPublishers = 6
	// Values that some publishers have on their way, without waiting for each, and how many they publish at most: what
	// the fetchers keep up with.
	jepsenWindow = 64
	jepsenAhead  = 15_000
)

// jepsenLog is what a publisher was told is stored: the sequence of each value.
type jepsenLog struct {
	mutex sync.Mutex
	seqs  map[string]uint64
	count atomic.Int64
	// It has published all that it may.
	isDone atomic.Bool
}

func (l *jepsenLog) add(value string, seq uint64) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.seqs[value] = seq
	l.count.Add(1)
}

// jepsenJS is a client that comes back as soon as the broker does.
func jepsenJS(t testing.TB, address string) jetstream.JetStream {
	nc := dial(t, "nats://"+address, nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1))
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second), jetstream.WithPublishAsyncTimeout(2*time.Second))
	kit.Check(t, err, "jetstream")
	return js
}

// publishOneByOne publishes values in order, each until it is acknowledged: the message id keeps a repetition from being
// stored again.
func publishOneByOne(js jetstream.JetStream, publisher int, log *jepsenLog, stop *atomic.Bool) {
	for n := 0; !stop.Load(); n++ {
		value := fmt.Sprintf("%d:%d", publisher, n)
		for {
			ack, err := js.Publish(context.Background(), fmt.Sprintf("jepsen.%d", publisher), []byte(value), jetstream.WithMsgID(value), jetstream.WithRetryAttempts(0))
			if err == nil {
				log.add(value, ack.Sequence)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// publishAhead publishes values with many on their way, and repeats none: those without an acknowledgement may be there
// or not.
func publishAhead(js jetstream.JetStream, publisher int, log *jepsenLog, stop *atomic.Bool) {
	type sent struct {
		value string
		ack   jetstream.PubAckFuture
	}
	window := make(chan sent, jepsenWindow)
	var taking sync.WaitGroup
	taking.Go(func() {
		for one := range window {
			select {
			case ack := <-one.ack.Ok():
				log.add(one.value, ack.Sequence)
			case <-one.ack.Err():
			}
		}
	})
	for n := 0; !stop.Load() && n < jepsenAhead; n++ {
		if n%100 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		value := fmt.Sprintf("%d:%d", publisher, n)
		ack, err := js.PublishAsync(fmt.Sprintf("jepsen.%d", publisher), []byte(value), jetstream.WithMsgID(value), jetstream.WithRetryAttempts(0))
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		window <- sent{value, ack}
	}
	close(window)
	taking.Wait()
	log.isDone.Store(true)
}

// jepsenFetcher counts deliveries of values, and remembers those whose acknowledgement was answered.
type jepsenFetcher struct {
	mutex   sync.Mutex
	times   map[string]int
	settled map[string]bool
	again   []string
}

func (f *jepsenFetcher) fetch(t testing.TB, js jetstream.JetStream, stop *atomic.Bool) {
	consumer, err := js.Consumer(kit.Context(t), "JEPSEN", "fetcher")
	kit.Check(t, err, "consumer")
	for !stop.Load() {
		batch, err := consumer.Fetch(100, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		var settling sync.WaitGroup
		for message := range batch.Messages() {
			f.came(string(message.Data()))
			settling.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if message.DoubleAck(ctx) == nil {
					f.mutex.Lock()
					defer f.mutex.Unlock()
					f.settled[string(message.Data())] = true
				}
			})
		}
		settling.Wait()
	}
}

func (f *jepsenFetcher) came(value string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.times[value]++
	if f.settled[value] {
		f.again = append(f.again, value)
	}
}

func TestJepsenKills(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "Jepsen's workload under kill -9: nothing acknowledged is lost, nothing is stored twice within the deduplication window, order is kept, and what is acknowledged with an answer does not come again")
	broker := kit.StartBroker(t)
	js := jepsenJS(t, broker.NATS)
	stream, err := js.CreateStream(kit.Context(t), jetstream.StreamConfig{Name: "JEPSEN", Subjects: []string{"jepsen.>"}, Duplicates: 2 * time.Minute})
	kit.Check(t, err, "create the stream")
	_, err = stream.CreateConsumer(kit.Context(t), jetstream.ConsumerConfig{Durable: "fetcher", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 2 * time.Second, MaxAckPending: 10_000})
	kit.Check(t, err, "create the consumer")

	var stop, stopFetching atomic.Bool
	var publishing, fetching sync.WaitGroup
	logs := make([]*jepsenLog, jepsenPublishers)
	for publisher := range logs {
		log := &jepsenLog{seqs: map[string]uint64{}}
		logs[publisher] = log
		client := jepsenJS(t, broker.NATS)
		if publisher%3 == 2 {
			publishing.Go(func() { publishAhead(client, publisher, log, &stop) })
		} else {
			publishing.Go(func() { publishOneByOne(client, publisher, log, &stop) })
		}
	}
	fetcher := &jepsenFetcher{times: map[string]int{}, settled: map[string]bool{}}
	for range 2 {
		client := jepsenJS(t, broker.NATS)
		fetching.Go(func() { fetcher.fetch(t, client, &stopFetching) })
	}
	for round := range jepsenRounds {
		floors := make([]int64, len(logs))
		for publisher, log := range logs {
			floors[publisher] = log.count.Load()
		}
		for publisher, log := range logs {
			kit.Eventually(t, fmt.Sprintf("round %d: publisher %d goes on", round, publisher), func() bool {
				return log.count.Load() > floors[publisher]+20 || log.isDone.Load()
			})
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		broker.Kill()
		broker.Start()
	}
	stop.Store(true)
	publishing.Wait()
	stored := checkStored(t, broker.NATS, logs)
	// An acknowledgement whose answer was lost with the process may count or not: the broker knows.
	kit.Eventually(t, "everything is fetched and settled", func() bool {
		consumer, err := js.Consumer(kit.Context(t), "JEPSEN", "fetcher")
		if err != nil {
			return false
		}
		info := consumer.CachedInfo()
		return info.NumPending+uint64(info.NumAckPending) == 0
	})
	stopFetching.Store(true)
	fetching.Wait()
	if len(fetcher.again) > 0 {
		t.Errorf("acknowledged with an answer, and delivered again: %v", fetcher.again)
	}
	total := 0
	for _, log := range logs {
		total += int(log.count.Load())
		for value := range log.seqs {
			if fetcher.times[value] == 0 {
				t.Errorf("%s was never fetched", value)
			}
		}
	}
	t.Logf("%d values acknowledged, %d stored, %d kills", total, stored, jepsenRounds)
}

// checkStored reads the stream from its start: each acknowledged value is where it was said to be, none is there twice,
// and those of a publisher are in the order in which it sent them.
func checkStored(t testing.TB, address string, logs []*jepsenLog) int {
	t.Helper()
	js := jepsenJS(t, address)
	stream, err := js.Stream(kit.Context(t), "JEPSEN")
	kit.Check(t, err, "stream")
	last := stream.CachedInfo().State.LastSeq
	consumer, err := stream.OrderedConsumer(kit.Context(t), jetstream.OrderedConsumerConfig{})
	kit.Check(t, err, "ordered consumer")
	messages, err := consumer.Messages()
	kit.Check(t, err, "messages")
	defer messages.Stop()
	places, newest := map[string]uint64{}, map[int]int{}
	for seq := uint64(0); seq < last; {
		message, err := messages.Next(jetstream.NextMaxWait(kit.Patience))
		kit.Check(t, err, "next")
		meta, err := message.Metadata()
		kit.Check(t, err, "metadata")
		seq = meta.Sequence.Stream
		value := string(message.Data())
		if before, isThere := places[value]; isThere {
			t.Errorf("%s is stored at %d and at %d", value, before, seq)
		}
		places[value] = seq
		var publisher, n int
		if _, err := fmt.Sscanf(strings.Replace(value, ":", " ", 1), "%d %d", &publisher, &n); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if before, isThere := newest[publisher]; isThere && before >= n {
			t.Errorf("publisher %d: %d came after %d", publisher, n, before)
		}
		newest[publisher] = n
	}
	for publisher, log := range logs {
		for value, seq := range log.seqs {
			if places[value] != seq {
				t.Errorf("publisher %d: %s was acknowledged at %d and is at %d", publisher, value, seq, places[value])
			}
		}
	}
	return len(places)
}
