package nats_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"wiremill/clients/kit"
)

func TestWildcards(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a publish reaches every subscription that matches, with wildcards")
	nc, root := dial(t, kit.NATS(t)), kit.Name("wild")
	one, rest, exact := subscribe(t, nc, root+".*"), subscribe(t, nc, root+".>"), subscribe(t, nc, root+".a")
	publish(t, nc, root+".a", "1")
	publish(t, nc, root+".a.b", "2")
	expect(t, one, "1")
	expect(t, rest, "1", "2")
	expect(t, exact, "1")
	none(t, nc, one)
	none(t, nc, exact)
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a message that nobody listens to is gone")
	nc, subject := dial(t, kit.NATS(t)), kit.Name("gone")
	publish(t, nc, subject, "early")
	sub := subscribe(t, nc, subject)
	publish(t, nc, subject, "late")
	expect(t, sub, "late")
	none(t, nc, sub)
}

func TestOrder(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "messages of one publisher arrive in order")
	publisher, subscriber, subject := dial(t, kit.NATS(t)), dial(t, kit.NATS(t)), kit.Name("order")
	sub := subscribe(t, subscriber, subject)
	publish(t, publisher, subject, numbers(0, 20_000)...)
	expect(t, sub, numbers(0, 20_000)...)
}

func TestQueueGroup(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a queue group gives each message to one of its members")
	subject, count := kit.Name("orders")+".created", 1_000
	var mutex sync.Mutex
	seen := map[string]int{}
	byMember := make([]atomic.Int64, 3)
	for member := range byMember {
		nc := dial(t, kit.NATS(t))
		_, err := nc.QueueSubscribe(subject, "order-processors", func(message *nats.Msg) {
			mutex.Lock()
			defer mutex.Unlock()
			seen[string(message.Data)]++
			byMember[member].Add(1)
		})
		kit.Check(t, err, "subscribe")
		flush(t, nc)
	}
	nc := dial(t, kit.NATS(t))
	audit := subscribe(t, nc, subject)
	publish(t, nc, subject, numbers(0, count)...)
	expect(t, audit, numbers(0, count)...)
	takenOnce(t, &mutex, seen, count)
	for member := range byMember {
		if byMember[member].Load() == 0 {
			t.Errorf("member %d got nothing", member)
		}
	}
}

func TestAutoUnsubscribe(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a subscription ends after as many messages as it asked for")
	nc, subject := dial(t, kit.NATS(t)), kit.Name("few")
	sub, err := nc.SubscribeSync(subject)
	kit.Check(t, err, "subscribe")
	kit.Check(t, sub.AutoUnsubscribe(3), "limit")
	publish(t, nc, subject, numbers(0, 5)...)
	expect(t, sub, "0", "1", "2")
	if _, err := sub.NextMsg(kit.Patience); !errors.Is(err, nats.ErrMaxMessages) {
		t.Fatalf("after the last: %v", err)
	}
	// A request to it is told that nobody is there: the server has taken it out.
	if _, err := nc.Request(subject, nil, kit.Patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("a request afterwards: %v", err)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "headers travel with a message")
	nc, subject := dial(t, kit.NATS(t)), kit.Name("headers")
	sub := subscribe(t, nc, subject)
	sent := nats.NewMsg(subject)
	sent.Header["Trace-Id"] = []string{"a", "b"}
	sent.Header["lower"] = []string{"x: y"}
	kit.Check(t, nc.PublishMsg(sent), "publish")
	got := next(t, sub)
	if fmt.Sprint(got.Header) != fmt.Sprint(sent.Header) || len(got.Data) != 0 {
		t.Fatalf("got %v with %q", got.Header, got.Data)
	}
}

func TestNoEcho(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a client that asks for no echo does not get its own messages")
	quiet, other, subject := dial(t, kit.NATS(t), nats.NoEcho()), dial(t, kit.NATS(t)), kit.Name("echo")
	own, others := subscribe(t, quiet, subject), subscribe(t, other, subject)
	publish(t, quiet, subject, "mine")
	publish(t, other, subject, "theirs")
	expect(t, others, "mine", "theirs")
	expect(t, own, "theirs")
}

func TestLongMessages(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "messages up to max_payload pass, and a longer one is an error")
	nc, subject := dial(t, kit.NATS(t)), kit.Name("long")
	sub := subscribe(t, nc, subject)
	most := int(nc.MaxPayload())
	if most != 1<<20 {
		t.Fatalf("max_payload is %d", most)
	}
	kit.Check(t, nc.Publish(subject, make([]byte, most)), "publish the longest")
	if len(next(t, sub).Data) != most {
		t.Fatal("it came shortened")
	}
	if err := nc.Publish(subject, make([]byte, most+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Fatalf("one byte more: %v", err)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a request is answered by one of several instances of a service")
	subject := kit.Name("api") + ".users.get"
	for instance := range 3 {
		nc := dial(t, kit.NATS(t))
		_, err := nc.QueueSubscribe(subject, "users", func(request *nats.Msg) {
			if err := request.Respond(append([]byte("user "), request.Data...)); err != nil {
				t.Errorf("instance %d: %v", instance, err)
			}
		})
		kit.Check(t, err, "subscribe")
		flush(t, nc)
	}
	nc := dial(t, kit.NATS(t))
	var all sync.WaitGroup
	for asker := range 8 {
		all.Go(func() {
			for n := range 100 {
				body := fmt.Sprintf("%d-%d", asker, n)
				answer, err := nc.RequestWithContext(t.Context(), subject, []byte(body))
				if err != nil || string(answer.Data) != "user "+body {
					t.Errorf("asked for %s: %v, %v", body, answer, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestNoResponder(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a request that nobody serves fails at once")
	nc := dial(t, kit.NATS(t))
	if _, err := nc.Request(kit.Name("nobody"), nil, 10*kit.Patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("got %v", err)
	}
	_, err := dial(t, kit.NATS(t), nats.UseOldRequestStyle()).Request(kit.Name("nobody"), nil, 10*kit.Patience)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("the older way of asking: %v", err)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "draining a subscriber loses and repeats nothing")
	publisher, subject, count := dial(t, kit.NATS(t)), kit.Name("drain"), 20_000
	var mutex sync.Mutex
	seen := map[string]int{}
	join := func() *nats.Conn {
		nc := dial(t, kit.NATS(t))
		_, err := nc.QueueSubscribe(subject, "workers", func(message *nats.Msg) {
			mutex.Lock()
			defer mutex.Unlock()
			seen[string(message.Data)]++
		})
		kit.Check(t, err, "subscribe")
		flush(t, nc)
		return nc
	}
	leaving := join()
	join()
	for n, body := range numbers(0, count) {
		kit.Check(t, publisher.Publish(subject, []byte(body)), "publish")
		if n == count/2 {
			kit.Check(t, leaving.Drain(), "drain")
		}
	}
	flush(t, publisher)
	kit.Eventually(t, "the drained connection is closed", leaving.IsClosed)
	takenOnce(t, &mutex, seen, count)
}

func TestRTT(t *testing.T) {
	t.Parallel()
	nc := dial(t, kit.NATS(t))
	rtt, err := nc.RTT()
	if err != nil || rtt <= 0 || rtt > kit.Patience || nc.ConnectedServerId() == "" {
		t.Fatalf("%s, %v, %q", rtt, err, nc.ConnectedServerId())
	}
	if id, err := nc.GetClientID(); err != nil || id == 0 {
		t.Fatalf("%d, %v", id, err)
	}
	if ip, err := nc.GetClientIP(); err != nil || !ip.IsLoopback() {
		t.Fatalf("%s, %v", ip, err)
	}
}

func TestSlowSubscriberOfTheClient(t *testing.T) {
	t.Parallel()
	errs := make(chan error, 1)
	nc := dial(t, kit.NATS(t), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case errs <- err:
		default:
		}
	}))
	subject := kit.Name("slow")
	sub := subscribe(t, nc, subject)
	kit.Check(t, sub.SetPendingLimits(10, -1), "limit")
	publish(t, nc, subject, numbers(0, 100)...)
	select {
	case err := <-errs:
		if !errors.Is(err, nats.ErrSlowConsumer) {
			t.Fatal(err)
		}
	case <-time.After(kit.Patience):
		t.Fatal("nobody was told")
	}
	if !nc.IsConnected() {
		t.Fatal("what is slow within a client costs its connection")
	}
}
