package nats_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
	"wiremill/clients/work"
)

// TestWork plays what every dialect must show of working a queue: the key is the last token of the subject, and one
// message at a time is out, which is how JetStream keeps order with any number of workers.
func TestWork(t *testing.T) {
	t.Parallel()
	work.Run(t, natsWork{})
}

type natsWork struct{}

func (natsWork) Shows(t *testing.T, capability string) { kit.Shows(t, kit.NATSGo, capability) }

// held is how long a message stays with a worker that is gone.
const held = 5 * time.Second

func (natsWork) Queue(t testing.TB) work.Queue {
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx, name := kit.Context(t), kit.Name("work")
	queue := workQueue{js: js, name: name, dead: name + "-dead"}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}, Retention: jetstream.WorkQueuePolicy})
	kit.Check(t, err, "create the stream")
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: queue.dead, Subjects: []string{queue.dead}})
	kit.Check(t, err, "create the stream of dead letters")
	_, err = js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{
		Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, AckWait: held, MaxAckPending: 1, MaxDeliver: work.Attempts,
		Metadata: map[string]string{"wiremill.dead_letter": queue.dead},
	})
	kit.Check(t, err, "create the consumer")
	return queue
}

type workQueue struct {
	js         jetstream.JetStream
	name, dead string
}

func (q workQueue) Publish(t testing.TB, messages ...work.Message) {
	for _, message := range messages {
		_, err := q.js.Publish(kit.Context(t), q.name+"."+message.Key, []byte(message.Body))
		kit.Check(t, err, "publish")
	}
}

func (q workQueue) Work(t testing.TB, handler work.Handler) work.Worker {
	nc := dial(t, kit.NATS(t))
	js, err := jetstream.New(nc)
	kit.Check(t, err, "jetstream")
	consumer, err := js.Consumer(kit.Context(t), q.name, "workers")
	kit.Check(t, err, "consumer")
	messages, err := consumer.Messages(jetstream.PullMaxMessages(1))
	kit.Check(t, err, "messages")
	ctx, kill := context.WithCancel(kit.Context(t))
	worker := &worker{nc: nc, messages: messages, kill: kill}
	worker.running.Go(func() { worker.run(t, ctx, handler) })
	return worker
}

func (q workQueue) DeadLetters(t testing.TB, n int) []work.Message {
	var found []work.Message
	kit.Eventually(t, "dead letters", func() bool {
		stream, err := q.js.Stream(kit.Context(t), q.dead)
		kit.Check(t, err, "stream")
		found = nil
		for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
			message, err := stream.GetMsg(kit.Context(t), seq)
			kit.Check(t, err, "get")
			subject := message.Header.Get("Wm-Dead-Subject")
			found = append(found, work.Message{Key: subject[strings.LastIndex(subject, ".")+1:], Body: string(message.Data)})
		}
		return len(found) >= n
	})
	return found
}

type worker struct {
	nc       *nats.Conn
	messages jetstream.MessagesContext
	kill     context.CancelFunc
	running  sync.WaitGroup
}

func (w *worker) run(t testing.TB, ctx context.Context, handler work.Handler) {
	for {
		message, err := w.messages.Next()
		if err != nil {
			return
		}
		subject := message.Subject()
		err = handler(ctx, work.Message{Key: subject[strings.LastIndex(subject, ".")+1:], Body: string(message.Data())})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			err = message.Nak()
		} else {
			err = message.Ack()
		}
		if err != nil {
			t.Errorf("settle: %v", err)
		}
	}
}

func (w *worker) Drain() {
	w.messages.Drain()
	w.running.Wait()
	w.kill()
	_ = w.nc.Drain()
}

func (w *worker) Kill() {
	w.nc.Close()
	w.kill()
	w.running.Wait()
}
