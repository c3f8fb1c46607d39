package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"wiremill/clients/kit"
	"wiremill/clients/work"
)

func TestFranzWork(t *testing.T) {
	t.Parallel()
	work.Run(t, franzWork{})
}

// franzWork works a topic as applications do it on Kafka: a group; a record whose handler fails goes to the end of the
// topic with one attempt more in a header, and after the last attempt to a topic of dead letters.
type franzWork struct{}

const attemptHeader = "x-attempt"

func (franzWork) Shows(t *testing.T, capability string) { kit.Shows(t, kit.Franz, capability) }

func (franzWork) Queue(t testing.TB) work.Queue {
	address := kit.Kafka(t)
	return &franzQueue{
		address: address, group: kit.Name("work"), topic: newTopic(t, address, "work", 6),
		dead: newTopic(t, address, "work-dead", 1), producer: franz(t, address),
	}
}

type franzQueue struct {
	address, group, topic, dead string
	producer                    *kgo.Client
}

func (q *franzQueue) Publish(t testing.TB, messages ...work.Message) {
	t.Helper()
	var records []*kgo.Record
	for _, message := range messages {
		records = append(records, &kgo.Record{Topic: q.topic, Key: []byte(message.Key), Value: []byte(message.Body)})
	}
	kit.Check(t, q.producer.ProduceSync(kit.Context(t), records...).FirstErr(), "publish")
}

func (q *franzQueue) DeadLetters(t testing.TB, n int) []work.Message {
	t.Helper()
	reader := franz(t, q.address, kgo.ConsumeTopics(q.dead), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var messages []work.Message
	for _, record := range read(t, reader, n) {
		messages = append(messages, messageOf(record))
	}
	return messages
}

func messageOf(record *kgo.Record) work.Message {
	return work.Message{Key: string(record.Key), Body: string(record.Value)}
}

// franzWorker polls, works and commits in turn; rebalances wait until what was polled is committed.
type franzWorker struct {
	t       testing.TB
	queue   *franzQueue
	client  *kgo.Client
	handler work.Handler
	// alive ends when the worker is killed, polling when it is to stop in order.
	alive, polling context.Context
	kill, stop     context.CancelFunc
	ended          chan struct{}
	network        *network
}

func (q *franzQueue) Work(t testing.TB, handler work.Handler) work.Worker {
	t.Helper()
	w := &franzWorker{t: t, queue: q, handler: handler, ended: make(chan struct{}), network: &network{}}
	w.alive, w.kill = context.WithCancel(context.Background())
	w.polling, w.stop = context.WithCancel(w.alive)
	t.Cleanup(w.kill)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(q.address), kgo.ConsumerGroup(q.group), kgo.ConsumeTopics(q.topic), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.Balancers(kgo.RangeBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(100*time.Millisecond), kgo.SessionTimeout(6*time.Second),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.Dialer(w.network.dial),
	)
	kit.Check(t, err, "make a worker")
	w.client = client
	go w.run()
	return w
}

func (w *franzWorker) run() {
	defer close(w.ended)
	for w.polling.Err() == nil {
		records := w.client.PollRecords(w.polling, 20).Records()
		for _, record := range records {
			if err := w.work(record); err != nil {
				if w.alive.Err() == nil {
					w.t.Errorf("work: %v", err)
				}
				return
			}
		}
		if err := w.commit(records); err != nil && w.alive.Err() == nil {
			w.t.Errorf("commit: %v", err)
		}
		w.client.AllowRebalance()
	}
}

func (w *franzWorker) work(record *kgo.Record) error {
	failed := w.handler(w.alive, messageOf(record))
	if failed == nil || w.alive.Err() != nil {
		return w.alive.Err()
	}
	attempt := 1
	for _, header := range record.Headers {
		if header.Key == attemptHeader {
			attempt, _ = strconv.Atoi(string(header.Value))
		}
	}
	again := &kgo.Record{Topic: w.queue.topic, Key: record.Key, Value: record.Value}
	if attempt == work.Attempts {
		again.Topic = w.queue.dead
	}
	again.Headers = []kgo.RecordHeader{{Key: attemptHeader, Value: fmt.Append(nil, attempt+1)}}
	return w.queue.producer.ProduceSync(w.alive, again).FirstErr()
}

// commit tries again while a rebalance is under way: records are given up by their commit and not before.
func (w *franzWorker) commit(records []*kgo.Record) error {
	for len(records) > 0 {
		err := w.client.CommitRecords(w.alive, records...)
		if !errors.Is(err, kerr.RebalanceInProgress) {
			return err
		}
	}
	return nil
}

func (w *franzWorker) Drain() {
	w.stop()
	<-w.ended
	w.client.CloseAllowingRebalance()
}

// Kill cuts the network, so that nothing of the client's goodbyes is heard.
func (w *franzWorker) Kill() {
	w.network.cut()
	w.kill()
	<-w.ended
	go w.client.CloseAllowingRebalance()
}

// network is a client's way to the broker, until it is cut.
type network struct {
	mu    sync.Mutex
	conns []net.Conn
	gone  bool
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone {
		conn.Close()
		return nil, net.ErrClosed
	}
	n.conns = append(n.conns, conn)
	return conn, nil
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = true
	for _, conn := range n.conns {
		conn.Close()
	}
}
