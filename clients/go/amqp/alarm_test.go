package amqp_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"wiremill/clients/kit"
)

// gated is a connection that sends no more than left bytes until it is open.
type gated struct {
	net.Conn
	mu   sync.Mutex
	left int
	open chan struct{}
}

func (g *gated) Write(data []byte) (int, error) {
	g.mu.Lock()
	left := min(g.left, len(data))
	g.left -= left
	g.mu.Unlock()
	n, err := g.Conn.Write(data[:left])
	if err != nil || left == len(data) {
		return n, err
	}
	<-g.open
	m, err := g.Conn.Write(data[left:])
	return n + m, err
}

// Messages that have not arrived whole share a tenth of the memory budget.
func TestMemoryAlarm(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a publisher for whose message there is no memory is blocked and told, others are served; it is unblocked when there is some, and nothing is lost")
	broker, queue := kit.StartBroker(t, "--memory-budget-len", "64MiB"), kit.Name("long")
	slow := &gated{left: 1 << 30, open: make(chan struct{})}
	holder, err := amqp.DialConfig("amqp://guest:guest@"+broker.AMQP+"/", amqp.Config{Dial: func(network, address string) (net.Conn, error) {
		conn, err := net.DialTimeout(network, address, kit.Patience)
		slow.Conn = conn
		return slow, err
	}})
	kit.Check(t, err, "dial")
	t.Cleanup(func() { _ = holder.Close() })
	publisher := dial(t, broker.AMQP)
	blockings := publisher.NotifyBlocked(make(chan amqp.Blocking, 4))
	declare(t, channel(t, publisher), queue, nil)
	publish := func(ch *amqp.Channel, bodyLen int) {
		confirm, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Body: make([]byte, bodyLen),
		})
		if err != nil {
			t.Errorf("publish: %v", err)
		} else if !confirm.Wait() {
			t.Error("a message was refused")
		}
	}
	var publishing sync.WaitGroup
	first, second := channel(t, holder), channel(t, publisher)
	kit.Check(t, first.Confirm(false), "confirm.select")
	kit.Check(t, second.Confirm(false), "confirm.select")
	slow.mu.Lock()
	slow.left = 4 << 20
	slow.mu.Unlock()
	publishing.Go(func() { publish(first, 4<<20+32<<10) })
	kit.Eventually(t, "the first message is under way", func() bool {
		slow.mu.Lock()
		defer slow.mu.Unlock()
		return slow.left == 0
	})
	publishing.Go(func() { publish(second, 4<<20) })
	if blocking := next(t, blockings); !blocking.Active || blocking.Reason != "low on memory" {
		t.Errorf("%+v came first", blocking)
	}
	// Others are served meanwhile.
	other := channel(t, dial(t, broker.AMQP))
	declare(t, other, queue, nil)
	close(slow.open)
	if blocking := next(t, blockings); blocking.Active {
		t.Errorf("%+v came second", blocking)
	}
	publishing.Wait()
	state, err := other.QueueDeclarePassive(queue, true, false, false, false, nil)
	kit.Check(t, err, "count")
	if state.Messages != 2 {
		t.Errorf("%d messages are there", state.Messages)
	}
}

// Transient messages have a fifth of the memory budget, and go to a folder beyond half of that. There is none here.
func TestTransientAlarm(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a publisher of transient messages is blocked and told while memory is full and nothing can be spilled; consumers go on and make room, and nothing is lost")
	broker, queue := kit.StartBroker(t, "--memory-budget-len", "64MiB"), kit.Name("transient")
	kit.Check(t, os.RemoveAll(filepath.Join(broker.Data(), "spill")), "remove the folder")
	publisher := dial(t, broker.AMQP)
	blockings := publisher.NotifyBlocked(make(chan amqp.Blocking, 1_000))
	ch := channel(t, publisher)
	declare(t, ch, queue, nil)
	const count, bodyLen = 400, 64 << 10
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for n := range count {
			body := fmt.Appendf(make([]byte, 0, bodyLen), "%d ", n)
			if err := ch.Publish("", queue, false, false, amqp.Publishing{Body: body[:bodyLen]}); err != nil {
				t.Errorf("publish: %v", err)
				return
			}
		}
	})
	if blocking := next(t, blockings); !blocking.Active || blocking.Reason != "low on memory" {
		t.Errorf("%+v came first", blocking)
	}
	deliveries, err := channel(t, dial(t, broker.AMQP)).Consume(queue, "", true, false, false, false, nil)
	kit.Check(t, err, "consume")
	for n := range count {
		select {
		case delivery := <-deliveries:
			if !strings.HasPrefix(string(delivery.Body), fmt.Sprintf("%d ", n)) {
				t.Fatalf("message %d begins with %q", n, delivery.Body[:8])
			}
		case <-time.After(kit.Patience):
			t.Fatalf("message %d did not come", n)
		}
	}
	publishing.Wait()
	for next(t, blockings).Active {
	}
}

func next(t *testing.T, blockings <-chan amqp.Blocking) amqp.Blocking {
	t.Helper()
	select {
	case blocking := <-blockings:
		return blocking
	case <-time.After(kit.Patience):
		t.Fatal("nothing was told")
		return amqp.Blocking{}
	}
}

// storm publishes as fast as the client library lets it, until stop; the numbers of those that were confirmed.
func storm(t *testing.T, connection *amqp.Connection, queue string, stop *atomic.Bool) []int {
	ch := channel(t, connection)
	kit.Check(t, ch.Confirm(false), "confirm.select")
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, kit.StormWindow))
	window := make(chan struct{}, kit.StormWindow)
	var confirmed []int
	var confirming sync.WaitGroup
	confirming.Go(func() {
		for range window {
			select {
			case confirm := <-confirms:
				if confirm.Ack {
					confirmed = append(confirmed, int(confirm.DeliveryTag)-1)
				}
			case <-time.After(kit.Patience):
				t.Error("a confirm did not come")
				return
			}
		}
	})
	filler := []byte(strings.Repeat("x", kit.StormBodyLen))
	for n := 0; !stop.Load(); n++ {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(n), Body: filler}
		if err := ch.Publish("", queue, false, false, message); err != nil {
			t.Errorf("publish: %v", err)
			break
		}
		window <- struct{}{}
	}
	close(window)
	confirming.Wait()
	return confirmed
}

func TestOverload(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "many times more than the disk takes: memory stays within its budget, others are served, nothing confirmed is lost, and it is over at once")
	broker := kit.StartBroker(t, kit.StormArguments()...)
	queues := make([]string, kit.StormPublishers)
	for publisher := range queues {
		queues[publisher] = kit.Name("storm")
		declare(t, channel(t, dial(t, broker.AMQP)), queues[publisher], nil)
	}
	var stop atomic.Bool
	var storming sync.WaitGroup
	confirmed := make([][]int, kit.StormPublishers)
	for publisher, queue := range queues {
		connection := dial(t, broker.AMQP)
		storming.Go(func() { confirmed[publisher] = storm(t, connection, queue, &stop) })
	}
	took := quiet(t, broker, time.Now().Add(kit.StormTime(t)))
	peak := broker.MemoryPeak()
	stop.Store(true)
	over := time.Now()
	storming.Wait()
	recovered := time.Since(over)
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	total := len(slices.Concat(confirmed...))
	t.Logf("%d confirmed, peak %d MiB, %d transient round trips of another connection with p99 %s; over after %s", total, peak>>20, len(took), p99, recovered)
	kit.CheckStormPeak(t, peak)
	if p99 > time.Second {
		t.Errorf("round trips beside took %s (p99)", p99)
	}
	if total < kit.StormPublishers || len(took) < kit.StormServed(t, 100*time.Millisecond) {
		t.Errorf("only %d messages were confirmed, and %d served beside", total, len(took))
	}
	kit.CheckStormEnd(t, recovered)
	broker.Kill()
	broker.Start()
	for publisher, queue := range queues {
		checkStorm(t, channel(t, dial(t, broker.AMQP)), queue, confirmed[publisher])
	}
}

// quiet is what another connection does meanwhile: how long transient messages take to itself, which no disk is needed for.
func quiet(t *testing.T, broker *kit.Broker, until time.Time) []time.Duration {
	t.Helper()
	ch := channel(t, dial(t, broker.AMQP))
	deliveries, err := ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	kit.Check(t, err, "consume replies")
	queue, err := ch.QueueDeclare("", false, false, true, false, nil)
	kit.Check(t, err, "declare")
	requests, err := ch.Consume(queue.Name, "", true, false, false, false, nil)
	kit.Check(t, err, "consume")
	go func() {
		for request := range requests {
			_ = ch.Publish("", request.ReplyTo, false, false, amqp.Publishing{})
		}
	}()
	var took []time.Duration
	for time.Now().Before(until) {
		began := time.Now()
		asking := amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to"}
		kit.Check(t, ch.Publish("", queue.Name, false, false, asking), "publish")
		select {
		case <-deliveries:
			took = append(took, time.Since(began))
		case <-time.After(kit.Patience):
			t.Fatal("no answer came")
		}
	}
	return took
}

// checkStorm finds every confirmed message in its queue.
func checkStorm(t *testing.T, ch *amqp.Channel, queue string, confirmed []int) {
	t.Helper()
	missing := map[string]bool{}
	for _, n := range confirmed {
		missing[fmt.Sprint(n)] = true
	}
	deliveries, err := ch.Consume(queue, "", true, false, false, false, nil)
	kit.Check(t, err, "consume")
	for len(missing) > 0 {
		select {
		case delivery := <-deliveries:
			delete(missing, delivery.MessageId)
		case <-time.After(kit.Patience):
			t.Errorf("%d confirmed messages of %d are lost", len(missing), len(confirmed))
			return
		}
	}
}

func TestRedeliveredAfterStarts(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "after a kill every message of a classic queue says that it may have been delivered, after a stop in order only those that were")
	broker, queue := kit.StartBroker(t), kit.Name("marked")
	ch := channel(t, dial(t, broker.AMQP))
	declare(t, ch, queue, nil)
	kit.Check(t, ch.Confirm(false), "confirm.select")
	for n := range 3 {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: fmt.Append(nil, n)}
		confirm, err := ch.PublishWithDeferredConfirm("", queue, false, false, message)
		kit.Check(t, err, "publish")
		confirm.Wait()
	}
	for _, round := range []struct {
		end  func()
		want []bool
	}{
		{broker.Stop, []bool{false, false, false}},
		{func() {
			// One is delivered, and nothing tells of it.
			_, _, err := channel(t, dial(t, broker.AMQP)).Get(queue, false)
			kit.Check(t, err, "get")
			broker.Kill()
		}, []bool{true, true, true}},
		{broker.Stop, []bool{true, true, true}},
	} {
		round.end()
		broker.Start()
		got := marks(t, channel(t, dial(t, broker.AMQP)), queue, len(round.want))
		if !slices.Equal(got, round.want) {
			t.Errorf("%v, not %v", got, round.want)
		}
		if round.want[0] {
			continue
		}
		// Looking at them was a delivery: the queue is filled anew.
		ch := channel(t, dial(t, broker.AMQP))
		_, err := ch.QueuePurge(queue, false)
		kit.Check(t, err, "purge")
		for range round.want {
			kit.Check(t, ch.Publish("", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent}), "publish")
		}
		kit.Eventually(t, "they are there", func() bool {
			state, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			return err == nil && state.Messages == len(round.want)
		})
	}
}

// marks are whether each of the first messages says that it was delivered before; they go back.
func marks(t *testing.T, ch *amqp.Channel, queue string, count int) []bool {
	t.Helper()
	var marks []bool
	var last uint64
	for range count {
		message, ok, err := ch.Get(queue, false)
		kit.Check(t, err, "get")
		if !ok {
			t.Fatalf("only %d messages are there", len(marks))
		}
		marks, last = append(marks, message.Redelivered), message.DeliveryTag
	}
	kit.Check(t, ch.Nack(last, true, true), "give back")
	return marks
}
