package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"wiremill/clients/kit"
)

func dial(t *testing.T, address string) *amqp.Connection {
	t.Helper()
	connection, err := amqp.Dial("amqp://guest:guest@" + address + "/")
	kit.Check(t, err, "dial")
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func channel(t *testing.T, connection *amqp.Connection) *amqp.Channel {
	t.Helper()
	ch, err := connection.Channel()
	kit.Check(t, err, "open a channel")
	return ch
}

func declare(t *testing.T, ch *amqp.Channel, name string, arguments amqp.Table) {
	t.Helper()
	_, err := ch.QueueDeclare(name, true, false, false, false, arguments)
	kit.Check(t, err, "declare")
}

// A publisher as people write it: confirms asked for before every publish, a deadline for each.
func TestPublishWithDeferredConfirm(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a publisher that asks for confirms before every publish and waits for each, a consumer that gives failures back: nothing lost")
	connection, queue := dial(t, kit.AMQP(t)), kit.Name("orders")
	ch := channel(t, connection)
	declare(t, ch, queue, nil)
	const count = 200
	for n := range count {
		kit.Check(t, ch.Confirm(false), "confirm.select")
		ctx, cancel := context.WithTimeout(kit.Context(t), 5*time.Second)
		confirmation, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, ContentType: "application/json",
			MessageId: fmt.Sprint(n), Body: fmt.Appendf(nil, `{"n":%d}`, n),
		})
		kit.Check(t, err, "publish")
		acked, err := confirmation.WaitContext(ctx)
		kit.Check(t, err, "wait for the confirm")
		if !acked {
			t.Fatalf("message %d was not confirmed", n)
		}
		cancel()
	}
	consumer := channel(t, connection)
	kit.Check(t, consumer.Qos(10, 0, false), "qos")
	deliveries, err := consumer.Consume(queue, "", false, false, false, false, nil)
	kit.Check(t, err, "consume")
	failed, done := map[string]bool{}, map[string]bool{}
	for len(done) < count {
		select {
		case delivery := <-deliveries:
			id := delivery.MessageId
			if len(id)%2 == 0 && !failed[id] {
				failed[id] = true
				kit.Check(t, delivery.Nack(false, true), "nack")
				continue
			}
			if failed[id] && !delivery.Redelivered {
				t.Errorf("message %s came again and does not say so", id)
			}
			if done[id] {
				t.Errorf("message %s was done already", id)
			}
			done[id] = true
			kit.Check(t, delivery.Ack(false), "ack")
		case <-time.After(kit.Patience):
			t.Fatalf("%d of %d messages came", len(done), count)
		}
	}
	_, err = consumer.QueueDelete(queue, false, false, false)
	kit.Check(t, err, "delete")
}

// What was confirmed is in the queue, and what is not there was not: also where one confirm says it of many.
func TestConfirmsOfAFullQueue(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "confirms that come while a full queue refuses: what it took is confirmed, and nothing else")
	connection, queue := dial(t, kit.AMQP(t)), kit.Name("full")
	ch, consumer := channel(t, connection), channel(t, connection)
	declare(t, ch, queue, amqp.Table{"x-max-length": 20, "x-overflow": "reject-publish"})
	kit.Check(t, ch.Confirm(false), "confirm.select")
	const count = 2_000
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, count))
	kit.Check(t, consumer.Qos(10, 0, false), "qos")
	deliveries, err := consumer.Consume(queue, "", false, false, false, false, nil)
	kit.Check(t, err, "consume")
	for n := range count {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(n + 1), Body: []byte("x")}
		kit.Check(t, ch.PublishWithContext(kit.Context(t), "", queue, false, false, message), "publish")
	}
	taken := map[string]bool{}
	for range count {
		select {
		case confirm := <-confirms:
			if confirm.Ack {
				taken[fmt.Sprint(confirm.DeliveryTag)] = true
			}
		case <-time.After(kit.Patience):
			t.Fatal("a confirm is missing")
		}
	}
	if len(taken) < 20 || len(taken) == count {
		t.Errorf("%d of %d messages were taken", len(taken), count)
	}
	for range len(taken) {
		select {
		case delivery := <-deliveries:
			if !taken[delivery.MessageId] {
				t.Fatalf("message %s was refused and came", delivery.MessageId)
			}
			delete(taken, delivery.MessageId)
			kit.Check(t, delivery.Ack(false), "ack")
		case <-time.After(kit.Patience):
			t.Fatalf("%d messages that were confirmed did not come", len(taken))
		}
	}
	_, err = consumer.QueueDelete(queue, false, false, false)
	kit.Check(t, err, "delete")
}

func TestReturnBeforeConfirm(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a message that goes nowhere is returned, and then confirmed")
	ch := channel(t, dial(t, kit.AMQP(t)))
	kit.Check(t, ch.Confirm(false), "confirm.select")
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	confirmation, err := ch.PublishWithDeferredConfirm("", kit.Name("nobody"), true, false, amqp.Publishing{Body: []byte("x")})
	kit.Check(t, err, "publish")
	acked, err := confirmation.WaitContext(kit.Context(t))
	kit.Check(t, err, "wait")
	if !acked {
		t.Error("not confirmed")
	}
	select {
	case returned := <-returns:
		if returned.ReplyCode != amqp.NoRoute || returned.ReplyText != "NO_ROUTE" {
			t.Errorf("returned with %d %s", returned.ReplyCode, returned.ReplyText)
		}
	default:
		t.Error("confirmed before it was returned")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a reused consumer tag ends the connection, an unknown delivery tag the channel")
	connection, queue := dial(t, kit.AMQP(t)), kit.Name("errors")
	ch := channel(t, connection)
	declare(t, ch, queue, nil)
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	kit.Check(t, ch.Ack(99, false), "ack")
	expect(t, closed, 406, "PRECONDITION_FAILED - unknown delivery tag 99")
	ch = channel(t, connection)
	_, err := ch.Consume(queue, "twice", false, false, false, false, nil)
	kit.Check(t, err, "consume")
	ended := connection.NotifyClose(make(chan *amqp.Error, 1))
	_, err = ch.Consume(queue, "twice", false, false, false, false, nil)
	if err == nil {
		t.Error("a tag was used twice")
	}
	expect(t, ended, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'")
	_, err = channel(t, dial(t, kit.AMQP(t))).QueueDelete(queue, false, false, false)
	kit.Check(t, err, "delete")
}

func expect(t *testing.T, errs <-chan *amqp.Error, code int, text string) {
	t.Helper()
	select {
	case err := <-errs:
		if err == nil || err.Code != code || err.Reason != text {
			t.Errorf("closed with %v, not %d %s", err, code, text)
		}
	case <-time.After(kit.Patience):
		t.Fatal("nothing was closed")
	}
}

func TestVirtualHost(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.AMQP091, "a virtual host that is not there is refused")
	_, err := amqp.Dial("amqp://guest:guest@" + kit.AMQP(t) + "/nowhere")
	var refused *amqp.Error
	if !errors.As(err, &refused) || refused.Code != 530 || refused.Reason != "NOT_ALLOWED - vhost nowhere not found" {
		t.Errorf("%v", err)
	}
}
