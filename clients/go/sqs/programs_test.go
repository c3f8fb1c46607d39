package sqs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"wiremill/clients/kit"
)

var errFailed = errors.New("the work could not be done")

// consume works as applications write it: long polls for ten messages, deletes what was done, and
// leaves what failed to the visibility timeout. It ends when ctx does, after what it has in hand.
func consume(ctx context.Context, q queue, visibility time.Duration, handle func(types.Message) error) {
	for ctx.Err() == nil {
		answer, err := q.sqs.ReceiveMessage(ctx, q.asking(10, 20, visibility))
		if err != nil {
			if ctx.Err() == nil {
				q.t.Errorf("receive: %v", err)
			}
			return
		}
		for _, message := range answer.Messages {
			if handle(message) != nil {
				continue
			}
			_, err := q.sqs.DeleteMessage(context.WithoutCancel(ctx), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: message.ReceiptHandle})
			if err != nil {
				q.t.Errorf("delete: %v", err)
			}
		}
	}
}

func TestGoAnOrderWorker(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "an order worker: long polls of ten, deletes what is done, and what failed comes again after its visibility timeout")
	q := newQueue(t, client(kit.AWS(t)), "orders", nil)
	ctx, stop := context.WithCancel(kit.Context(t))
	var mu sync.Mutex
	attempts, done := map[string]int{}, map[string]bool{}
	var worker sync.WaitGroup
	worker.Go(func() {
		consume(ctx, q, time.Second, func(message types.Message) error {
			mu.Lock()
			defer mu.Unlock()
			order := *message.Body
			attempts[order]++
			if count := message.Attributes["ApproximateReceiveCount"]; count != strconv.Itoa(attempts[order]) {
				t.Errorf("%s: receive count %s at attempt %d", order, count, attempts[order])
			}
			if n, err := strconv.Atoi(order); err == nil && n%7 == 3 && attempts[order] == 1 {
				return errFailed
			}
			done[order] = true
			return nil
		})
	})
	for n := range 40 {
		q.send(strconv.Itoa(n))
	}
	q.settled()
	stop()
	worker.Wait()
	if len(done) != 40 {
		t.Errorf("%d orders were done", len(done))
	}
	for _, failed := range []string{"3", "10", "17", "24", "31", "38"} {
		if attempts[failed] < 2 {
			t.Errorf("%s came %d times", failed, attempts[failed])
		}
	}
}

func TestGoAConsumerThatGoesAway(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "a long poll that is given up takes no message with it")
	q := newQueue(t, client(kit.AWS(t)), "polls", nil)
	for round := range 20 {
		ctx, cancel := context.WithCancel(kit.Context(t))
		var poll sync.WaitGroup
		for range 5 {
			poll.Go(func() {
				if answer, err := q.sqs.ReceiveMessage(ctx, q.asking(10, 20, time.Minute)); err == nil {
					for _, message := range answer.Messages {
						q.delete(message)
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		cancel()
		poll.Wait()
		q.send(strconv.Itoa(round))
		messages := q.take(1, time.Minute)
		if message := messages[0]; *message.Body != strconv.Itoa(round) {
			t.Fatalf("round %d: %s", round, *message.Body)
		}
		q.delete(messages[0])
	}
	q.settled()
}

func TestGoAnOrderStreamByGroup(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "a FIFO order stream by group with three workers that fail now and then: every group in order")
	q := newQueue(t, client(kit.AWS(t)), "orders", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true"})
	const perGroup = 12
	groups := []string{"ann", "bob", "cem", "dot", "eve"}
	for n := range perGroup {
		for _, group := range groups {
			q.send(fmt.Sprintf("%s %d", group, n), inGroup(group))
		}
	}
	ctx, stop := context.WithCancel(kit.Context(t))
	var mu sync.Mutex
	done, failed := map[string][]string{}, map[string]bool{}
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() { inOrder(ctx, q, &mu, done, failed) })
	}
	q.settled()
	stop()
	workers.Wait()
	for _, group := range groups {
		want := make([]string, perGroup)
		for n := range want {
			want[n] = fmt.Sprintf("%s %d", group, n)
		}
		// A worker that was too slow loses its message to another, which repeats it.
		if got := slices.Compact(done[group]); !slices.Equal(got, want) {
			t.Errorf("%s: %v", group, got)
		}
	}
	if len(failed) != len(groups)*2 {
		t.Errorf("failed: %v", failed)
	}
}

// inOrder works a FIFO queue: after a failure the rest of the group waits with it.
func inOrder(ctx context.Context, q queue, mu *sync.Mutex, done map[string][]string, failed map[string]bool) {
	for ctx.Err() == nil {
		answer, err := q.sqs.ReceiveMessage(ctx, q.asking(10, 20, 2*time.Second))
		if err != nil {
			return
		}
		blocked := map[string]bool{}
		for _, message := range answer.Messages {
			group := message.Attributes["MessageGroupId"]
			if blocked[group] {
				continue
			}
			mu.Lock()
			var n int
			_, err := fmt.Sscanf(*message.Body, group+" %d", &n)
			if fails := n%5 == 4 && !failed[*message.Body]; err != nil || fails {
				failed[*message.Body], blocked[group] = true, true
			} else {
				done[group] = append(done[group], *message.Body)
			}
			mu.Unlock()
			if !blocked[group] {
				// Too late is no error of the program: the message comes again.
				_, err := q.sqs.DeleteMessage(context.WithoutCancel(ctx), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: message.ReceiptHandle})
				blocked[group] = err != nil
			}
		}
	}
}

func TestGoDeadLettersAndTheWayBack(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "dead letters after n attempts, and a move task that takes them back")
	sqsClient := client(kit.AWS(t))
	dead := newQueue(t, sqsClient, "dead", nil)
	q := newQueue(t, sqsClient, "work", deadLetters(dead, 2))
	sent := map[string]string{}
	for n := range 25 {
		body := strconv.Itoa(n)
		sent[*q.send(body).MessageId] = body
	}
	for range 2 {
		for _, message := range q.take(25, time.Minute) {
			_, err := sqsClient.ChangeMessageVisibility(kit.Context(t), &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.url, ReceiptHandle: message.ReceiptHandle})
			kit.Check(t, err, "give it back")
		}
	}
	kit.Eventually(t, "all are dead letters", func() bool { return len(q.receive(0)) == 0 && dead.counts()[0] == "25" })
	for _, message := range dead.take(25, time.Second) {
		if sent[*message.MessageId] != *message.Body || message.Attributes["DeadLetterQueueSourceArn"] != q.attribute("QueueArn") {
			t.Errorf("%s: %s %v", *message.MessageId, *message.Body, message.Attributes)
		}
	}
	kit.Eventually(t, "they are visible again", func() bool { return dead.counts()[0] == "25" })
	arn := dead.attribute("QueueArn")
	_, err := sqsClient.StartMessageMoveTask(kit.Context(t), &sqs.StartMessageMoveTaskInput{SourceArn: &arn})
	kit.Check(t, err, "move them back")
	kit.Eventually(t, "the task is done", func() bool {
		tasks, err := sqsClient.ListMessageMoveTasks(kit.Context(t), &sqs.ListMessageMoveTasksInput{SourceArn: &arn})
		kit.Check(t, err, "list move tasks")
		return *tasks.Results[0].Status == "COMPLETED" && tasks.Results[0].ApproximateNumberOfMessagesMoved == 25
	})
	for _, message := range q.take(25, time.Minute) {
		delete(sent, *message.MessageId)
		q.delete(message)
	}
	q.settled()
	dead.settled()
}

func TestGoDrainOnShutdown(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "drain on shutdown: workers that are replaced while messages come in lose and repeat nothing")
	q := newQueue(t, client(kit.AWS(t)), "drain", nil)
	var mu sync.Mutex
	var done []string
	record := func(message types.Message) error {
		mu.Lock()
		defer mu.Unlock()
		done = append(done, *message.Body)
		return nil
	}
	var workers sync.WaitGroup
	start := func() context.CancelFunc {
		stopping, stop := context.WithCancel(kit.Context(t))
		workers.Go(func() { drainable(stopping, q, record) })
		return stop
	}
	stops := []context.CancelFunc{start(), start(), start()}
	var want []string
	for round := range 10 {
		for n := range 20 {
			want = append(want, fmt.Sprintf("%d-%d", round, n))
			q.send(want[len(want)-1])
		}
		stops[round]()
		stops = append(stops, start())
	}
	q.settled()
	for _, stop := range stops {
		stop()
	}
	workers.Wait()
	if got := sorted(done); !slices.Equal(got, sorted(want)) {
		t.Errorf("%d were done of %d", len(got), len(want))
	}
}

// drainable works a queue until told to stop, then finishes the receive that is under way.
func drainable(stopping context.Context, q queue, handle func(types.Message) error) {
	ctx := context.WithoutCancel(stopping)
	for stopping.Err() == nil {
		answer, err := q.sqs.ReceiveMessage(ctx, q.asking(10, 1, 2*time.Minute))
		if err != nil {
			q.t.Errorf("receive: %v", err)
			return
		}
		for _, message := range answer.Messages {
			if err := handle(message); err != nil {
				q.t.Errorf("handle: %v", err)
			}
			if _, err := q.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: message.ReceiptHandle}); err != nil {
				q.t.Errorf("delete: %v", err)
			}
		}
	}
}
