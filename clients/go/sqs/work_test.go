package sqs_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"wiremill/clients/kit"
	"wiremill/clients/work"
)

// TestGoWork plays what every dialect must show of working a queue: the key is the message group of a FIFO queue.
func TestGoWork(t *testing.T) {
	t.Parallel()
	work.Run(t, goWork{})
}

type goWork struct{}

func (goWork) Shows(t *testing.T, capability string) { kit.Shows(t, kit.SQS, capability) }

func (goWork) Queue(t testing.TB) work.Queue {
	aws := client(kit.AWS(t))
	fifo := map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true"}
	dead := newQueue(t, aws, "work-dead", fifo)
	attributes := deadLetters(dead, work.Attempts)
	for name, value := range fifo {
		attributes[name] = value
	}
	return workQueue{newQueue(t, aws, "work", attributes), dead}
}

type workQueue struct{ jobs, dead queue }

func (q workQueue) Publish(t testing.TB, messages ...work.Message) {
	for _, message := range messages {
		q.jobs.send(message.Body, inGroup(message.Key))
	}
}

// held is how long a message stays with a worker that is gone.
const held = 5 * time.Second

func (q workQueue) Work(t testing.TB, handler work.Handler) work.Worker {
	taking, stopTaking := context.WithCancel(kit.Context(t))
	handling, stopHandling := context.WithCancel(kit.Context(t))
	worker := &worker{queue: q.jobs, handler: handler, handling: handling, drain: stopTaking, kill: stopHandling}
	worker.running.Go(func() { worker.run(taking) })
	return worker
}

func (q workQueue) DeadLetters(t testing.TB, n int) []work.Message {
	var found []work.Message
	kit.Eventually(t, "dead letters", func() bool {
		for _, message := range q.dead.receive(time.Minute) {
			found = append(found, asWork(message))
		}
		return len(found) >= n
	})
	return found
}

func asWork(message types.Message) work.Message {
	return work.Message{Key: message.Attributes["MessageGroupId"], Body: *message.Body}
}

type worker struct {
	queue       queue
	handler     work.Handler
	handling    context.Context
	drain, kill context.CancelFunc
	running     sync.WaitGroup
}

func (w *worker) run(taking context.Context) {
	for taking.Err() == nil {
		// Not cut off by a drain: what the queue had given by then would be nobody's until its timeout, and its group with it.
		answer, err := w.queue.sqs.ReceiveMessage(w.handling, w.queue.asking(1, 1, held))
		if err != nil {
			if w.handling.Err() == nil {
				w.queue.t.Errorf("receive: %v", err)
			}
			return
		}
		for _, message := range answer.Messages {
			w.settle(message, w.handler(w.handling, asWork(message)))
		}
	}
}

// settle deletes what was done and gives back what was not, unless the worker was killed.
func (w *worker) settle(message types.Message, failure error) {
	if w.handling.Err() != nil {
		return
	}
	url, handle := &w.queue.url, message.ReceiptHandle
	var err error
	if failure == nil {
		_, err = w.queue.sqs.DeleteMessage(w.handling, &sqs.DeleteMessageInput{QueueUrl: url, ReceiptHandle: handle})
	} else {
		_, err = w.queue.sqs.ChangeMessageVisibility(w.handling, &sqs.ChangeMessageVisibilityInput{QueueUrl: url, ReceiptHandle: handle})
	}
	if err != nil && w.handling.Err() == nil {
		w.queue.t.Errorf("settle: %v", err)
	}
}

func (w *worker) Drain() {
	w.drain()
	w.running.Wait()
}

func (w *worker) Kill() {
	w.kill()
	w.drain()
	w.running.Wait()
}
