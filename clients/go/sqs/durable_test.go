package sqs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"wiremill/clients/kit"
)

// syncDelay is how long each sync of the broker under test takes; an answer that comes sooner did not
// wait for one. A kill alone keeps the page cache and would prove little.
const syncDelay = 200 * time.Millisecond

func TestGoNoDurableAnswerComesBeforeItsSync(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "no durable answer comes before its sync: create, send, receive, change, delete, tag, purge, move")
	broker := kit.StartBroker(t, "--test-sync-delay-ms", fmt.Sprint(syncDelay.Milliseconds()))
	c := client("http://" + broker.AWS)
	ctx := kit.Context(t)
	waits := func(what string, do func() error) {
		t.Helper()
		began := time.Now()
		kit.Check(t, do(), what)
		if took := time.Since(began); took < syncDelay {
			t.Errorf("%s was answered after %v", what, took)
		}
	}
	dead := newQueue(t, c, "dead", nil)
	var q queue
	waits("create a queue", func() error { q = newQueue(t, c, "durable", deadLetters(dead, 5)); return nil })
	fifo := newQueue(t, c, "durable", map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true"})
	for n := range 3 {
		waits("send", func() error { q.send("x"); return nil })
		waits("send to a FIFO queue", func() error { fifo.send(fmt.Sprint(n), inGroup("g")); return nil })
	}
	waits("send a batch", func() error {
		_, err := c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: []types.SendMessageBatchRequestEntry{
			{Id: aws.String("a"), MessageBody: aws.String("x")}, {Id: aws.String("b"), MessageBody: aws.String("x")},
		}})
		return err
	})
	var messages []types.Message
	waits("receive", func() error { messages = q.receive(time.Minute); return nil })
	if len(messages) != 5 {
		t.Fatalf("%d messages came", len(messages))
	}
	waits("receive from a FIFO queue", func() error { fifo.receive(time.Minute); return nil })
	handle := messages[0].ReceiptHandle
	waits("change a visibility", func() error {
		_, err := c.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &q.url, ReceiptHandle: handle, VisibilityTimeout: 50})
		return err
	})
	waits("change visibilities", func() error {
		_, err := c.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
			{Id: aws.String("a"), ReceiptHandle: messages[1].ReceiptHandle, VisibilityTimeout: 50},
		}})
		return err
	})
	waits("delete", func() error { q.delete(messages[0]); return nil })
	waits("delete a batch", func() error {
		_, err := c.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: []types.DeleteMessageBatchRequestEntry{
			{Id: aws.String("a"), ReceiptHandle: messages[1].ReceiptHandle}, {Id: aws.String("b"), ReceiptHandle: messages[2].ReceiptHandle},
		}})
		return err
	})
	waits("set an attribute", func() error {
		_, err := c.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: &q.url, Attributes: map[string]string{"VisibilityTimeout": "77"}})
		return err
	})
	waits("tag", func() error {
		_, err := c.TagQueue(ctx, &sqs.TagQueueInput{QueueUrl: &q.url, Tags: map[string]string{"a": "b"}})
		return err
	})
	waits("untag", func() error {
		_, err := c.UntagQueue(ctx, &sqs.UntagQueueInput{QueueUrl: &q.url, TagKeys: []string{"a"}})
		return err
	})
	waits("add a permission", func() error {
		_, err := c.AddPermission(ctx, &sqs.AddPermissionInput{QueueUrl: &q.url, Label: aws.String("l"), AWSAccountIds: []string{"111122223333"}, Actions: []string{"*"}})
		return err
	})
	waits("remove a permission", func() error {
		_, err := c.RemovePermission(ctx, &sqs.RemovePermissionInput{QueueUrl: &q.url, Label: aws.String("l")})
		return err
	})
	dead.send("x")
	arn := dead.attribute("QueueArn")
	waits("start a move task", func() error {
		_, err := c.StartMessageMoveTask(ctx, &sqs.StartMessageMoveTaskInput{SourceArn: &arn})
		return err
	})
	waits("purge", func() error { _, err := c.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: &q.url}); return err })
	waits("delete a queue", func() error { _, err := c.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &q.url}); return err })
}
