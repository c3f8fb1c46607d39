package sqs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"wiremill/clients/kit"
)

const crashRounds = 10

// ledger is what the broker said: stored, received so many times, deleted.
type ledger struct {
	mu       sync.Mutex
	sent     map[string]bool
	received map[string]map[int]time.Time
	deleted  map[string]time.Time
	answers  atomic.Int64
}

func TestGoKillsUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "ten kill -9 under load: no acknowledged message lost, no deleted one back, no receive count lower than one that was answered")
	broker := kit.StartBroker(t)
	c := client("http://"+broker.AWS, once)
	q := newQueue(t, c, "crash", map[string]string{"VisibilityTimeout": "2"})
	book := &ledger{sent: map[string]bool{}, received: map[string]map[int]time.Time{}, deleted: map[string]time.Time{}}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for sender := range 3 {
		load.Go(func() { book.send(ctx, q, sender) })
	}
	for range 3 {
		load.Go(func() { book.work(ctx, q, true) })
	}
	for round := range crashRounds {
		floor := book.answers.Load()
		kit.Eventually(t, fmt.Sprintf("round %d: answers come", round), func() bool { return book.answers.Load() > floor+100 })
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		broker.Kill()
		broker.Start()
	}
	stop()
	load.Wait()
	// What is left is worked off by one that deletes everything.
	ctx, stop = context.WithCancel(t.Context())
	load.Go(func() { book.work(ctx, q, false) })
	q.settled()
	stop()
	load.Wait()
	lost := 0
	for body := range book.sent {
		if len(book.received[body]) == 0 {
			lost++
		}
	}
	if lost > 0 || len(book.sent) < 100 {
		t.Errorf("%d of %d acknowledged messages were lost", lost, len(book.sent))
	}
}

func (l *ledger) send(ctx context.Context, q queue, sender int) {
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf("%d-%d", sender, n)
		_, err := q.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body})
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		l.mu.Lock()
		l.sent[body] = true
		l.mu.Unlock()
		l.answers.Add(1)
	}
}

// work receives and deletes; a flighty worker leaves every third message to its visibility timeout.
func (l *ledger) work(ctx context.Context, q queue, flighty bool) {
	for ctx.Err() == nil {
		began := time.Now()
		answer, err := q.sqs.ReceiveMessage(ctx, q.asking(10, 1, 0))
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		for i, message := range answer.Messages {
			l.hears(q, began, *message.Body, message.Attributes["ApproximateReceiveCount"])
			if flighty && i%3 == 2 {
				continue
			}
			_, err := q.sqs.DeleteMessage(context.WithoutCancel(ctx), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: message.ReceiptHandle})
			if err == nil {
				l.mu.Lock()
				l.deleted[*message.Body] = time.Now()
				l.mu.Unlock()
				l.answers.Add(1)
			}
		}
	}
}

// hears of a message in the answer to a receive that began then. Answers may be noted in another order than
// they were given in; what was noted before the receive began is past.
func (l *ledger) hears(q queue, began time.Time, body, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count, err := strconv.Atoi(text)
	if err != nil {
		q.t.Errorf("%s has receive count %q", body, text)
	}
	for other, noted := range l.received[body] {
		if other == count || (other > count && noted.Before(began)) {
			q.t.Errorf("%s was received as number %d after number %d", body, count, other)
		}
	}
	if deleted, known := l.deleted[body]; known && deleted.Before(began) {
		q.t.Errorf("%s came back after it was deleted", body)
	}
	if l.received[body] == nil {
		l.received[body] = map[int]time.Time{}
	}
	l.received[body][count] = time.Now()
}
