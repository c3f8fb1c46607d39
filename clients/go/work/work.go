// Package work says what working a queue must show, once for every dialect: an adapter puts the words of one client
// library behind [Dialect], and [Run] plays all scenarios on it.
package work

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"wiremill/clients/kit"
)

// Attempts is how often a message is tried before it is a dead letter.
const Attempts = 3

// Message is what a producer sends and a handler gets.
type Message struct{ Key, Body string }

// Handler works on one message. Whatever it returns an error for comes again, and after [Attempts] times becomes a
// dead letter. The context ends when the worker is killed.
type Handler func(context.Context, Message) error

// Worker takes messages from a queue and gives them to its handler, one after another.
type Worker interface {
	// Drain stops taking, finishes what is in hand and goes in order.
	Drain()
	// Kill goes without a word; what is in hand is not settled.
	Kill()
}

// Queue is one fresh place to work, gone with its test.
type Queue interface {
	// Publish returns when the messages are stored, in their order.
	Publish(t testing.TB, messages ...Message)
	// Work starts a worker.
	Work(t testing.TB, handler Handler) Worker
	// DeadLetters waits until there are n, and returns them.
	DeadLetters(t testing.TB, n int) []Message
}

// Dialect is a client library and the way to use it.
type Dialect interface {
	// Shows promises that the test demonstrates a capability, as kit.Shows does.
	Shows(t *testing.T, capability string)
	// Queue makes one.
	Queue(t testing.TB) Queue
}

// Run plays every scenario.
func Run(t *testing.T, dialect Dialect) {
	scenarios := []struct {
		name, shows string
		play        func(*testing.T, Queue)
	}{
		{"Failure", "work: a message whose handler failed comes again", afterAFailure},
		{"Killed", "work: what a killed worker had in hand comes again, to another", afterAKilledWorker},
		{"DeadLetter", fmt.Sprintf("work: a message that fails %d times becomes a dead letter, once", Attempts), deadLetter},
		{"Order", "work: messages of one key are worked in their order, by any number of workers", orderPerKey},
		{"Drain", "work: workers that drain and are replaced lose nothing and repeat nothing", drain},
	}
	for _, scenario := range scenarios {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			dialect.Shows(t, scenario.shows)
			scenario.play(t, dialect.Queue(t))
		})
	}
}

// ledger counts how often each body was worked to its end, and keeps the order per key.
type ledger struct {
	mu     sync.Mutex
	bodies map[string]int
	byKey  map[string][]string
}

func newLedger() *ledger {
	return &ledger{bodies: map[string]int{}, byKey: map[string][]string{}}
}

func (l *ledger) add(message Message) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bodies[message.Body]++
	l.byKey[message.Key] = append(l.byKey[message.Key], message.Body)
	return l.bodies[message.Body]
}

func (l *ledger) times(body string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bodies[body]
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.bodies)
}

func numbered(from, to, keys int) []Message {
	var messages []Message
	for n := from; n < to; n++ {
		messages = append(messages, Message{Key: fmt.Sprintf("key-%d", n%keys), Body: fmt.Sprintf("%06d", n)})
	}
	return messages
}

var errFailed = errors.New("the handler failed")

func afterAFailure(t *testing.T, queue Queue) {
	queue.Publish(t, numbered(0, 10, 5)...)
	tried := newLedger()
	worker := queue.Work(t, func(_ context.Context, message Message) error {
		if tried.add(message) == 1 && message.Body == "000003" {
			return errFailed
		}
		return nil
	})
	kit.Eventually(t, "the failed message comes again", func() bool { return tried.times("000003") == 2 && tried.len() == 10 })
	worker.Drain()
	for n := range 10 {
		want := 1
		if n == 3 {
			want = 2
		}
		if body := fmt.Sprintf("%06d", n); tried.times(body) != want {
			t.Errorf("%s was tried %d times, not %d", body, tried.times(body), want)
		}
	}
}

func afterAKilledWorker(t *testing.T, queue Queue) {
	queue.Publish(t, numbered(0, 10, 5)...)
	taken := make(chan Message, 10)
	killed := queue.Work(t, func(ctx context.Context, message Message) error {
		taken <- message
		<-ctx.Done()
		return ctx.Err()
	})
	held := <-taken
	killed.Kill()
	worked := newLedger()
	heir := queue.Work(t, func(_ context.Context, message Message) error {
		worked.add(message)
		return nil
	})
	kit.Eventually(t, "another has worked everything, "+held.Body+" too", func() bool {
		return worked.len() == 10 && worked.times(held.Body) > 0
	})
	heir.Drain()
}

func deadLetter(t *testing.T, queue Queue) {
	queue.Publish(t, numbered(0, 20, 5)...)
	tried := newLedger()
	worker := queue.Work(t, func(_ context.Context, message Message) error {
		tried.add(message)
		if message.Body == "000007" {
			return errFailed
		}
		return nil
	})
	dead := queue.DeadLetters(t, 1)
	kit.Eventually(t, "everything is tried", func() bool { return tried.len() == 20 })
	worker.Drain()
	if len(dead) != 1 || dead[0] != (Message{Key: "key-2", Body: "000007"}) {
		t.Errorf("dead letters: %v", dead)
	}
	if times := tried.times("000007"); times != Attempts {
		t.Errorf("tried %d times before it was given up", times)
	}
}

func orderPerKey(t *testing.T, queue Queue) {
	worked := newLedger()
	var workers []Worker
	for range 3 {
		workers = append(workers, queue.Work(t, func(_ context.Context, message Message) error {
			worked.add(message)
			return nil
		}))
	}
	for n := 0; n < 500; n += 50 {
		queue.Publish(t, numbered(n, n+50, 10)...)
	}
	kit.Eventually(t, "everything is worked", func() bool { return worked.len() == 500 })
	for _, worker := range workers {
		worker.Drain()
	}
	for key, bodies := range worked.byKey {
		last := ""
		for _, body := range bodies {
			if body <= last {
				t.Errorf("%s: %s after %s", key, body, last)
			}
			last = body
		}
	}
}

func drain(t *testing.T, queue Queue) {
	worked := newLedger()
	handler := func(_ context.Context, message Message) error {
		worked.add(message)
		return nil
	}
	workers := []Worker{queue.Work(t, handler), queue.Work(t, handler)}
	const rounds = 6
	for round := range rounds {
		queue.Publish(t, numbered(round*50, round*50+50, 10)...)
		// Some of them are worked, others in hand or on their way.
		kit.Eventually(t, "work goes on", func() bool { return worked.len() > round*50 })
		workers[round%2].Drain()
		workers[round%2] = queue.Work(t, handler)
	}
	kit.Eventually(t, "everything is worked", func() bool { return worked.len() == rounds*50 })
	for _, worker := range workers {
		worker.Drain()
	}
	for body, times := range worked.bodies {
		if times != 1 {
			t.Errorf("%s was worked %d times", body, times)
		}
	}
}
