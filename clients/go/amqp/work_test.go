package amqp_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"wiremill/clients/kit"
	"wiremill/clients/work"
)

// TestWork plays what every dialect must show of working a queue. Attempts are counted by a quorum queue, with a delivery
// limit; the order per key is that of a single active consumer, as RabbitMQ's users have it.
func TestWork(t *testing.T) {
	t.Parallel()
	work.Run(t, dialect{})
}

type dialect struct{}

func (dialect) Shows(t *testing.T, capability string) { kit.Shows(t, kit.AMQP091, capability) }

func (dialect) Queue(t testing.TB) work.Queue {
	connection, err := amqp.Dial("amqp://guest:guest@" + kit.AMQP(t) + "/")
	kit.Check(t, err, "dial")
	ch, err := connection.Channel()
	kit.Check(t, err, "open a channel")
	kit.Check(t, ch.Confirm(false), "confirm.select")
	q := workQueue{publisher: ch, jobs: kit.Name("work"), dead: kit.Name("work-dead")}
	arguments := map[string]amqp.Table{
		q.dead: nil,
		q.jobs: {
			"x-queue-type": "quorum", "x-delivery-limit": int32(work.Attempts - 1), "x-single-active-consumer": true,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q.dead,
		},
	}
	for name, table := range arguments {
		_, err := ch.QueueDeclare(name, true, false, false, false, table)
		kit.Check(t, err, "declare")
	}
	t.Cleanup(func() {
		for name := range arguments {
			if _, err := ch.QueueDelete(name, false, false, false); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		_ = connection.Close()
	})
	return q
}

type workQueue struct {
	publisher  *amqp.Channel
	jobs, dead string
}

func (q workQueue) Publish(t testing.TB, messages ...work.Message) {
	var confirms []*amqp.DeferredConfirmation
	for _, message := range messages {
		confirm, err := q.publisher.PublishWithDeferredConfirm("", q.jobs, true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, CorrelationId: message.Key, Body: []byte(message.Body),
		})
		kit.Check(t, err, "publish")
		confirms = append(confirms, confirm)
	}
	for _, confirm := range confirms {
		if acked, err := confirm.WaitContext(kit.Context(t)); err != nil || !acked {
			t.Fatalf("not confirmed: %v", err)
		}
	}
}

func (q workQueue) Work(t testing.TB, handler work.Handler) work.Worker {
	var socket net.Conn
	connection, err := amqp.DialConfig("amqp://guest:guest@"+kit.AMQP(t)+"/", amqp.Config{
		Dial: func(network, address string) (net.Conn, error) {
			var err error
			socket, err = net.DialTimeout(network, address, kit.Patience)
			return socket, err
		},
	})
	kit.Check(t, err, "dial")
	ch, err := connection.Channel()
	kit.Check(t, err, "open a channel")
	kit.Check(t, ch.Qos(1, 0, false), "qos")
	deliveries, err := ch.Consume(q.jobs, "worker", false, false, false, false, nil)
	kit.Check(t, err, "consume")
	handling, kill := context.WithCancel(kit.Context(t))
	w := &worker{t: t, connection: connection, socket: socket, channel: ch, handling: handling, kill: kill}
	w.running.Go(func() { w.run(deliveries, handler) })
	return w
}

func (q workQueue) DeadLetters(t testing.TB, n int) []work.Message {
	var found []work.Message
	kit.Eventually(t, "dead letters", func() bool {
		message, ok, err := q.publisher.Get(q.dead, true)
		kit.Check(t, err, "get")
		if ok {
			found = append(found, asWork(message))
		}
		return len(found) >= n
	})
	// One more would have come by now.
	time.Sleep(100 * time.Millisecond)
	if message, ok, err := q.publisher.Get(q.dead, true); err == nil && ok {
		found = append(found, asWork(message))
	}
	return found
}

func asWork(message amqp.Delivery) work.Message {
	return work.Message{Key: message.CorrelationId, Body: string(message.Body)}
}

type worker struct {
	t          testing.TB
	connection *amqp.Connection
	socket     net.Conn
	channel    *amqp.Channel
	handling   context.Context
	kill       context.CancelFunc
	running    sync.WaitGroup
}

// run works until the deliveries end: the consumer is cancelled, or its connection is gone.
func (w *worker) run(deliveries <-chan amqp.Delivery, handler work.Handler) {
	for delivery := range deliveries {
		failure := handler(w.handling, asWork(delivery))
		if w.handling.Err() != nil {
			return
		}
		var err error
		if failure == nil {
			err = delivery.Ack(false)
		} else {
			// What RabbitMQ counts towards the limit; a nack it does not.
			err = delivery.Reject(true)
		}
		if err != nil {
			w.t.Errorf("settle: %v", err)
		}
	}
}

func (w *worker) Drain() {
	kit.Check(w.t, w.channel.Cancel("worker", false), "cancel")
	w.running.Wait()
	kit.Check(w.t, w.connection.Close(), "close")
}

func (w *worker) Kill() {
	w.kill()
	w.running.Wait()
	// Without a word: what it had is given back because its connection is gone.
	kit.Check(w.t, w.socket.Close(), "cut the connection")
}
