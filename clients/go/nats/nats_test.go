// Package nats_test is what programs written with nats.go see.
package nats_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"wiremill/clients/kit"
)

// dial is set up as long-lived services do it: it never gives up.
func dial(t testing.TB, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	always := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.Timeout(kit.Patience)}
	nc, err := nats.Connect(url, append(always, options...)...)
	kit.Check(t, err, "connect")
	t.Cleanup(nc.Close)
	return nc
}

// subscribe returns once the server has the subscription.
func subscribe(t testing.TB, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	kit.Check(t, err, "subscribe")
	flush(t, nc)
	return sub
}

// flush returns when everything before it was handled.
func flush(t testing.TB, nc *nats.Conn) {
	t.Helper()
	kit.Check(t, nc.FlushWithContext(kit.Context(t)), "flush")
}

func publish(t testing.TB, nc *nats.Conn, subject string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		kit.Check(t, nc.Publish(subject, []byte(body)), "publish")
	}
	flush(t, nc)
}

func next(t testing.TB, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	message, err := sub.NextMsgWithContext(kit.Context(t))
	kit.Check(t, err, "take the next message")
	return message
}

// expect checks the next bodies.
func expect(t testing.TB, sub *nats.Subscription, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if got := string(next(t, sub).Data); got != body {
			t.Fatalf("got %q, not %q", got, body)
		}
	}
}

// none checks that nothing is waiting. The server has handed over everything before a flush comes back.
func none(t testing.TB, nc *nats.Conn, sub *nats.Subscription) {
	t.Helper()
	flush(t, nc)
	if message, err := sub.NextMsg(time.Millisecond); err == nil {
		t.Fatalf("got %q, which should not have come", message.Data)
	}
}

// takenOnce waits until count bodies were taken, and fails when one was taken more than once.
func takenOnce(t testing.TB, mutex *sync.Mutex, seen map[string]int, count int) {
	t.Helper()
	kit.Eventually(t, "every message was taken", func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return len(seen) == count
	})
	mutex.Lock()
	defer mutex.Unlock()
	for body, times := range seen {
		if times != 1 {
			t.Errorf("%s was taken %d times", body, times)
		}
	}
}

func numbers(from, to int) []string {
	texts := make([]string, 0, to-from)
	for n := from; n < to; n++ {
		texts = append(texts, strconv.Itoa(n))
	}
	return texts
}

// subscribed waits until the broker has count subscriptions, of all its clients.
func subscribed(t testing.TB, broker *kit.Broker, count int) {
	t.Helper()
	kit.Eventually(t, fmt.Sprintf("there are %d subscriptions", count), func() bool {
		answer, err := http.Get("http://" + broker.Admin + "/subsz")
		kit.Check(t, err, "ask for /subsz")
		defer answer.Body.Close()
		var page struct {
			Count int `json:"num_subscriptions"`
		}
		kit.Check(t, json.NewDecoder(answer.Body).Decode(&page), "read /subsz")
		return page.Count >= count
	})
}
