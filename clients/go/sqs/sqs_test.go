// Package sqs_test is what programs written with aws-sdk-go-v2 see.
package sqs_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"wiremill/clients/kit"
)

// client is set up as applications do it; the address and the credentials are ours.
func client(address string, options ...func(*sqs.Options)) *sqs.Client {
	return sqs.New(sqs.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(address),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	}, options...)
}

// once makes a client give up at the first error.
func once(options *sqs.Options) { options.RetryMaxAttempts = 1 }

// ownConnection gives a client a pool of its own, so that a test can cut its connections.
func ownConnection(transport *http.Transport) func(*sqs.Options) {
	return func(options *sqs.Options) { options.HTTPClient = &http.Client{Transport: transport} }
}

type queue struct {
	t   testing.TB
	sqs *sqs.Client
	url string
}

func newQueue(t testing.TB, client *sqs.Client, prefix string, attributes map[string]string) queue {
	t.Helper()
	name := kit.Name(prefix)
	if attributes["FifoQueue"] == "true" {
		name += ".fifo"
	}
	made, err := client.CreateQueue(kit.Context(t), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	kit.Check(t, err, "create a queue")
	return queue{t, client, *made.QueueUrl}
}

// deadLetters is the attribute that sends what failed n times to another queue.
func deadLetters(dead queue, n int) map[string]string {
	return map[string]string{"RedrivePolicy": `{"deadLetterTargetArn":"` + dead.attribute("QueueArn") + `","maxReceiveCount":` + strconv.Itoa(n) + `}`}
}

func (q queue) attribute(name string) string {
	q.t.Helper()
	answer, err := q.sqs.GetQueueAttributes(kit.Context(q.t), &sqs.GetQueueAttributesInput{
		QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeName(name)},
	})
	kit.Check(q.t, err, "read "+name)
	return answer.Attributes[name]
}

// counts are the messages that are visible, in flight and delayed.
func (q queue) counts() [3]string {
	q.t.Helper()
	names := []types.QueueAttributeName{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"}
	answer, err := q.sqs.GetQueueAttributes(kit.Context(q.t), &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: names})
	kit.Check(q.t, err, "count messages")
	var counts [3]string
	for i, name := range names {
		counts[i] = answer.Attributes[string(name)]
	}
	return counts
}

var nothing = [3]string{"0", "0", "0"}

func (q queue) settled() {
	q.t.Helper()
	kit.Eventually(q.t, "the queue is empty", func() bool { return q.counts() == nothing })
}

func (q queue) send(body string, options ...func(*sqs.SendMessageInput)) *sqs.SendMessageOutput {
	q.t.Helper()
	input := &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body}
	for _, option := range options {
		option(input)
	}
	sent, err := q.sqs.SendMessage(kit.Context(q.t), input)
	kit.Check(q.t, err, "send "+body)
	return sent
}

func inGroup(group string) func(*sqs.SendMessageInput) {
	return func(input *sqs.SendMessageInput) { input.MessageGroupId = &group }
}

// receive asks as the programs do: up to ten messages, waiting, every attribute.
func (q queue) receive(visibility time.Duration) []types.Message {
	q.t.Helper()
	answer, err := q.sqs.ReceiveMessage(kit.Context(q.t), q.asking(10, 5, visibility))
	kit.Check(q.t, err, "receive")
	return answer.Messages
}

func (q queue) asking(count, waitSeconds int32, visibility time.Duration) *sqs.ReceiveMessageInput {
	return &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: count, WaitTimeSeconds: waitSeconds, VisibilityTimeout: int32(visibility.Seconds()),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}, MessageAttributeNames: []string{"All"},
	}
}

// take receives until count messages have come.
func (q queue) take(count int, visibility time.Duration) []types.Message {
	q.t.Helper()
	var messages []types.Message
	kit.Eventually(q.t, strconv.Itoa(count)+" messages come", func() bool {
		messages = append(messages, q.receive(visibility)...)
		return len(messages) >= count
	})
	return messages
}

func (q queue) delete(message types.Message) {
	q.t.Helper()
	_, err := q.sqs.DeleteMessage(kit.Context(q.t), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: message.ReceiptHandle})
	kit.Check(q.t, err, "delete "+*message.Body)
}

func bodies(messages []types.Message) []string {
	var all []string
	for _, message := range messages {
		all = append(all, *message.Body)
	}
	return all
}

func sorted(all []string) []string { return slices.Sorted(slices.Values(all)) }
