package sqs_test

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"wiremill/clients/kit"
)

func TestGoAMessageComesBackAsItWasSent(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "a message comes back as it was sent: body, typed and binary attributes, digests that the client checks")
	q := newQueue(t, client(kit.AWS(t)), "round", nil)
	attributes := map[string]types.MessageAttributeValue{
		"text":   {DataType: aws.String("String"), StringValue: aws.String("grün <&>")},
		"number": {DataType: aws.String("Number"), StringValue: aws.String("-12.5")},
		"bytes":  {DataType: aws.String("Binary.raw"), BinaryValue: []byte{0, 1, 0xff}},
	}
	body := "päivää 世界 𝄞\r\n\t\"quoted\""
	sent := q.send(body, func(input *sqs.SendMessageInput) { input.MessageAttributes = attributes })
	messages := q.take(1, time.Minute)
	message := messages[0]
	if *message.MessageId != *sent.MessageId || *message.Body != body || *message.MD5OfMessageAttributes != *sent.MD5OfMessageAttributes {
		t.Errorf("received %+v, sent %+v", message, sent)
	}
	same := func(a, b types.MessageAttributeValue) bool {
		return *a.DataType == *b.DataType && aws.ToString(a.StringValue) == aws.ToString(b.StringValue) && bytes.Equal(a.BinaryValue, b.BinaryValue)
	}
	if !maps.EqualFunc(message.MessageAttributes, attributes, same) {
		t.Errorf("attributes %+v", message.MessageAttributes)
	}
	for _, name := range []string{"SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"} {
		if message.Attributes[name] == "" {
			t.Errorf("%s is missing from %v", name, message.Attributes)
		}
	}
}

func TestGoALongPollIsWoken(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "a long poll is woken by a message, by a delayed one, and by one that comes back")
	q := newQueue(t, client(kit.AWS(t)), "wake", nil)
	began := time.Now()
	poll := func(visibility time.Duration, want string) types.Message {
		t.Helper()
		answer, err := q.sqs.ReceiveMessage(kit.Context(t), q.asking(1, 20, visibility))
		kit.Check(t, err, "poll")
		if got := bodies(answer.Messages); !slices.Equal(got, []string{want}) {
			t.Fatalf("polled %v instead of %s", got, want)
		}
		return answer.Messages[0]
	}
	go func() {
		time.Sleep(200 * time.Millisecond)
		if _, err := q.sqs.SendMessage(kit.Context(t), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: aws.String("sent")}); err != nil {
			t.Errorf("send: %v", err)
		}
	}()
	q.delete(poll(time.Minute, "sent"))
	q.send("delayed", func(input *sqs.SendMessageInput) { input.DelaySeconds = 1 })
	poll(time.Second, "delayed")
	back := poll(time.Minute, "delayed")
	if back.Attributes["ApproximateReceiveCount"] != "2" {
		t.Errorf("attributes of what came back: %v", back.Attributes)
	}
	// Each of the three would have waited 20 s.
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("woken after %v", took)
	}
}

func TestGoEachEntryOfABatch(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "in a batch each entry succeeds or fails by itself")
	q := newQueue(t, client(kit.AWS(t)), "batch", map[string]string{"MaximumMessageSize": "1024"})
	entries := []types.SendMessageBatchRequestEntry{
		{Id: aws.String("good"), MessageBody: aws.String("x")},
		{Id: aws.String("big"), MessageBody: aws.String(strings.Repeat("x", 1025))},
		{Id: aws.String("late"), MessageBody: aws.String("x"), DelaySeconds: 901},
	}
	sent, err := q.sqs.SendMessageBatch(kit.Context(t), &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	kit.Check(t, err, "send a batch")
	if len(sent.Successful) != 1 || *sent.Successful[0].Id != "good" || len(sent.Failed) != 2 {
		t.Fatalf("sent %+v", sent)
	}
	for _, failed := range sent.Failed {
		if *failed.Code != "InvalidParameterValue" || !failed.SenderFault || aws.ToString(failed.Message) == "" {
			t.Errorf("%s failed with %s: %s", *failed.Id, *failed.Code, aws.ToString(failed.Message))
		}
	}
	message := q.take(1, time.Minute)[0]
	deleted, err := q.sqs.DeleteMessageBatch(kit.Context(t), &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: []types.DeleteMessageBatchRequestEntry{
		{Id: aws.String("good"), ReceiptHandle: message.ReceiptHandle}, {Id: aws.String("bad"), ReceiptHandle: aws.String("garbage")},
	}})
	kit.Check(t, err, "delete a batch")
	if len(deleted.Successful) != 1 || len(deleted.Failed) != 1 || *deleted.Failed[0].Code != "ReceiptHandleIsInvalid" {
		t.Errorf("deleted %+v", deleted)
	}
	q.settled()
}

func TestGoErrorsHaveTheirTypes(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "errors have their types, AWS's codes and texts")
	c := client(kit.AWS(t), once)
	q := newQueue(t, c, "errors", nil)
	missing := q.url + "-missing"
	send := func(url, body string) error {
		_, err := c.SendMessage(kit.Context(t), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body})
		return err
	}
	var gone *types.QueueDoesNotExist
	if err := send(missing, "x"); !errors.As(err, &gone) || gone.ErrorMessage() != "The specified queue does not exist." {
		t.Errorf("a missing queue: %v", err)
	}
	if code := gone.ErrorCode(); code != "AWS.SimpleQueueService.NonExistentQueue" {
		t.Errorf("its code is %s", code)
	}
	var contents *types.InvalidMessageContents
	if err := send(q.url, "a\u0001"); !errors.As(err, &contents) {
		t.Errorf("a control character: %v", err)
	}
	_, err := c.DeleteMessage(kit.Context(t), &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: aws.String("garbage")})
	var handle *types.ReceiptHandleIsInvalid
	if !errors.As(err, &handle) {
		t.Errorf("a garbled handle: %v", err)
	}
	_, err = c.SendMessageBatch(kit.Context(t), &sqs.SendMessageBatchInput{QueueUrl: &q.url, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("a"), MessageBody: aws.String("x")}, {Id: aws.String("a"), MessageBody: aws.String("y")},
	}})
	var repeated *types.BatchEntryIdsNotDistinct
	if !errors.As(err, &repeated) {
		t.Errorf("an id twice: %v", err)
	}
	_, err = c.CreateQueue(kit.Context(t), &sqs.CreateQueueInput{
		QueueName: aws.String(q.url[strings.LastIndex(q.url, "/")+1:]), Attributes: map[string]string{"DelaySeconds": "7"},
	})
	var exists *types.QueueNameExists
	if !errors.As(err, &exists) {
		t.Errorf("other settings: %v", err)
	}
	_, err = c.ReceiveMessage(kit.Context(t), &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: 11})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidParameterValue" || api.ErrorFault() != smithy.FaultClient {
		t.Errorf("eleven messages: %v", err)
	}
}

func TestGoOneConnectionServesMany(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.SQS, "a hundred goroutines send and receive at once")
	q := newQueue(t, client(kit.AWS(t), ownConnection(&http.Transport{MaxIdleConnsPerHost: 100})), "many", nil)
	results := make(chan error, 100)
	for n := range 100 {
		go func() {
			body := strings.Repeat("x", n*100+1)
			_, err := q.sqs.SendMessage(kit.Context(t), &sqs.SendMessageInput{QueueUrl: &q.url, MessageBody: &body})
			results <- err
		}()
	}
	for range 100 {
		kit.Check(t, <-results, "send")
	}
	seen := map[int]bool{}
	for _, message := range q.take(100, time.Minute) {
		seen[len(*message.Body)] = true
		q.delete(message)
	}
	if len(seen) != 100 {
		t.Errorf("%d lengths", len(seen))
	}
	q.settled()
}
