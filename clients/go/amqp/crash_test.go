package amqp_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"wiremill/clients/kit"
)

const (
	killRounds = 4
	// How long the load runs before each kill.
	loadFor = 1500 * time.Millisecond
	// An acknowledgement has no answer: one as young as this may be lost with the process.
	inFlight = time.Second
)

// ledger is what publisher and consumer know across kills. Messages are numbered in the order of their publishing.
type ledger struct {
	mu        sync.Mutex
	published int
	confirmed map[int]bool
	seen      map[int]bool
	acked     map[int]time.Time
}

// A publisher with many confirms on their way and a consumer that acknowledges, while the broker is killed again and again.
func TestKillsUnderLoad(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a broker killed under load again and again: every confirmed message is delivered, in order, and none comes back that was acknowledged before")
	broker := kit.StartBroker(t)
	queue := kit.Name("killed")
	l := &ledger{confirmed: map[int]bool{}, seen: map[int]bool{}, acked: map[int]time.Time{}}
	killed := time.Time{}
	for range killRounds {
		connection := dial(t, broker.AMQP)
		declare(t, channel(t, connection), queue, nil)
		var load sync.WaitGroup
		load.Go(func() { l.publish(t, channel(t, connection), queue) })
		load.Go(func() { l.consume(t, channel(t, connection), queue, killed) })
		time.Sleep(loadFor)
		killed = time.Now()
		broker.Kill()
		load.Wait()
		broker.Start()
	}
	connection := dial(t, broker.AMQP)
	var rest sync.WaitGroup
	last := channel(t, connection)
	rest.Go(func() { l.consume(t, last, queue, killed) })
	kit.Eventually(t, "every confirmed message is delivered", func() bool { return l.missing() == 0 })
	kit.Check(t, last.Cancel("consumer", false), "cancel")
	rest.Wait()
	if len(l.confirmed) < killRounds*100 {
		t.Errorf("no load: %d confirmed", len(l.confirmed))
	}
	t.Logf("%d published, %d confirmed, %d seen, %d acknowledged", l.published, len(l.confirmed), len(l.seen), len(l.acked))
}

func (l *ledger) missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := 0
	for n := range l.confirmed {
		if !l.seen[n] {
			missing++
		}
	}
	return missing
}

// publish goes on until the connection breaks, with up to a hundred messages that are not confirmed yet.
func (l *ledger) publish(t *testing.T, ch *amqp.Channel, queue string) {
	kit.Check(t, ch.Confirm(false), "confirm.select")
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 100))
	gone := ch.NotifyClose(make(chan *amqp.Error, 1))
	window := make(chan struct{}, 100)
	first := l.published
	var confirming sync.WaitGroup
	confirming.Go(func() {
		for confirm := range confirms {
			if !confirm.Ack {
				t.Errorf("message %d was refused", first+int(confirm.DeliveryTag)-1)
			}
			l.mu.Lock()
			l.confirmed[first+int(confirm.DeliveryTag)-1] = true
			l.mu.Unlock()
			<-window
		}
	})
	for isOpen := true; isOpen; {
		select {
		case window <- struct{}{}:
		case <-gone:
			isOpen = false
			continue
		case <-time.After(kit.Patience):
			t.Error("no confirm came")
			return
		}
		err := ch.Publish("", queue, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: fmt.Append(nil, l.published)})
		if err != nil {
			break
		}
		l.published++
	}
	confirming.Wait()
}

// consume acknowledges until the connection breaks. What was acknowledged long before the kill does not come again.
func (l *ledger) consume(t *testing.T, ch *amqp.Channel, queue string, killed time.Time) {
	kit.Check(t, ch.Qos(50, 0, false), "qos")
	deliveries, err := ch.Consume(queue, "consumer", false, false, false, false, nil)
	kit.Check(t, err, "consume")
	last := -1
	for delivery := range deliveries {
		n, err := strconv.Atoi(string(delivery.Body))
		kit.Check(t, err, "a number")
		if n <= last {
			t.Errorf("%d came after %d", n, last)
		}
		last = n
		l.mu.Lock()
		if at, ok := l.acked[n]; ok && killed.Sub(at) > inFlight {
			t.Errorf("%d was acknowledged %s before the kill and came again", n, killed.Sub(at))
		}
		l.seen[n] = true
		if delivery.Ack(false) == nil {
			l.acked[n] = time.Now()
		}
		l.mu.Unlock()
	}
}
