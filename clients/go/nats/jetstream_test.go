package nats_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

// js is a client of JetStream, and a stream of its own with subjects below the name.
func js(t testing.TB, config jetstream.StreamConfig) (jetstream.JetStream, jetstream.Stream, string) {
	t.Helper()
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	name := kit.Name("stream")
	config.Name, config.Subjects = name, []string{name + ".>"}
	stream, err := js.CreateStream(kit.Context(t), config)
	kit.Check(t, err, "create a stream")
	return js, stream, name
}

func put(t testing.TB, js jetstream.JetStream, subject string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		_, err := js.Publish(kit.Context(t), subject, []byte(body))
		kit.Check(t, err, "publish")
	}
}

func fetched(t testing.TB, batch jetstream.MessageBatch, err error) []jetstream.Msg {
	t.Helper()
	kit.Check(t, err, "fetch")
	var all []jetstream.Msg
	for message := range batch.Messages() {
		all = append(all, message)
	}
	kit.Check(t, batch.Error(), "fetch")
	return all
}

func bodies(messages []jetstream.Msg) []string {
	all := []string{}
	for _, message := range messages {
		all = append(all, string(message.Data()))
	}
	return all
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s: %v instead of %v", what, got, want)
	}
}

func TestAccountInfo(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "JetStream is there and says which level of its API")
	js, _, _ := js(t, jetstream.StreamConfig{})
	info, err := js.AccountInfo(kit.Context(t))
	kit.Check(t, err, "account")
	same(t, "level", info.API.Level, 1)
	if info.Streams < 1 {
		t.Fatal("no streams")
	}
}

func TestPublishAndFetch(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a durable pull consumer gets messages in order and acknowledges them")
	js, stream, name := js(t, jetstream.StreamConfig{})
	put(t, js, name+".a", numbers(0, 10)...)
	consumer, err := stream.CreateConsumer(kit.Context(t), jetstream.ConsumerConfig{Durable: "worker"})
	kit.Check(t, err, "create a consumer")
	batch, err := consumer.Fetch(4)
	first := fetched(t, batch, err)
	same(t, "the first", bodies(first), numbers(0, 4))
	meta, err := first[3].Metadata()
	kit.Check(t, err, "metadata")
	same(t, "metadata", []uint64{meta.Sequence.Stream, meta.Sequence.Consumer, meta.NumDelivered, meta.NumPending}, []uint64{4, 4, 1, 6})
	for _, message := range first {
		kit.Check(t, message.DoubleAck(kit.Context(t)), "double ack")
	}
	batch, err = consumer.FetchNoWait(100)
	same(t, "the rest", bodies(fetched(t, batch, err)), numbers(4, 10))
	info, err := consumer.Info(kit.Context(t))
	kit.Check(t, err, "info")
	same(t, "info", []uint64{info.Delivered.Stream, info.AckFloor.Stream, uint64(info.NumAckPending), info.NumPending}, []uint64{10, 4, 6, 0})
	batch, err = consumer.FetchNoWait(1)
	same(t, "nothing", bodies(fetched(t, batch, err)), []string{})
}

func TestConsumeAndMessages(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "consume and messages hand out what comes as it comes")
	js, stream, name := js(t, jetstream.StreamConfig{})
	consumer, err := stream.CreateConsumer(kit.Context(t), jetstream.ConsumerConfig{Durable: "worker"})
	kit.Check(t, err, "create a consumer")
	count := 2_000
	var seen atomic.Int64
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		seen.Add(1)
		kit.Check(t, message.Ack(), "ack")
	}, jetstream.PullMaxMessages(100))
	kit.Check(t, err, "consume")
	for n := range count {
		_, err := js.PublishAsync(name+".x", fmt.Append(nil, n))
		kit.Check(t, err, "publish")
	}
	kit.Eventually(t, "all came", func() bool { return seen.Load() == int64(count) })
	consuming.Stop()
	kit.Eventually(t, "all are acknowledged", func() bool {
		info, err := consumer.Info(kit.Context(t))
		return err == nil && info.NumAckPending == 0 && info.AckFloor.Stream == uint64(count)
	})
	iterator, err := consumer.Messages()
	kit.Check(t, err, "messages")
	defer iterator.Stop()
	put(t, js, name+".y", "last")
	message, err := iterator.Next()
	kit.Check(t, err, "next")
	same(t, "the last", string(message.Data()), "last")
}

func TestAcknowledgements(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "nak, delay, in progress, term and max deliver")
	js, stream, name := js(t, jetstream.StreamConfig{})
	consumer, err := stream.CreateConsumer(kit.Context(t), jetstream.ConsumerConfig{Durable: "worker", AckWait: 400 * time.Millisecond, MaxDeliver: 3})
	kit.Check(t, err, "create a consumer")
	next := func() jetstream.Msg {
		t.Helper()
		message, err := consumer.Next(jetstream.FetchMaxWait(kit.Patience))
		kit.Check(t, err, "next")
		return message
	}
	delivery := func(message jetstream.Msg) uint64 {
		meta, err := message.Metadata()
		kit.Check(t, err, "metadata")
		return meta.NumDelivered
	}
	put(t, js, name+".a", "one")
	kit.Check(t, next().Nak(), "nak")
	again := next()
	same(t, "after a nak", delivery(again), 2)
	began := time.Now()
	kit.Check(t, again.NakWithDelay(300*time.Millisecond), "nak with delay")
	third := next()
	if time.Since(began) < 250*time.Millisecond {
		t.Fatal("it did not wait")
	}
	same(t, "after the delay", delivery(third), 3)
	// Its last delivery runs out: it does not come again.
	put(t, js, name+".a", "two")
	two := next()
	same(t, "the second", string(two.Data()), "two")
	for range 3 {
		time.Sleep(200 * time.Millisecond)
		kit.Check(t, two.InProgress(), "in progress")
	}
	batch, err := consumer.FetchNoWait(1)
	same(t, "while it is worked on", bodies(fetched(t, batch, err)), []string{})
	kit.Check(t, two.TermWithReason("broken"), "term")
	batch, err = consumer.Fetch(1, jetstream.FetchMaxWait(time.Second))
	same(t, "after it was given up", bodies(fetched(t, batch, err)), []string{})
}

func TestDeliverPolicies(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "consumers begin where they are told, with filters")
	js, stream, name := js(t, jetstream.StreamConfig{})
	put(t, js, name+".a", "a1", "a2")
	put(t, js, name+".b", "b1")
	put(t, js, name+".a", "a3")
	for _, one := range []struct {
		config jetstream.ConsumerConfig
		want   []string
	}{
		{jetstream.ConsumerConfig{}, []string{"a1", "a2", "b1", "a3"}},
		{jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPolicy}, []string{"a3"}},
		{jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy}, []string{}},
		{jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 3}, []string{"b1", "a3"}},
		{jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, FilterSubject: name + ".>"}, []string{"b1", "a3"}},
		{jetstream.ConsumerConfig{FilterSubject: name + ".b"}, []string{"b1"}},
		{jetstream.ConsumerConfig{FilterSubjects: []string{name + ".b", name + ".c"}}, []string{"b1"}},
	} {
		for _, ack := range []jetstream.AckPolicy{jetstream.AckExplicitPolicy, jetstream.AckNonePolicy} {
			one.config.AckPolicy = ack
			consumer, err := stream.CreateConsumer(kit.Context(t), one.config)
			kit.Check(t, err, "create a consumer")
			same(t, "pending", consumer.CachedInfo().NumPending, len(one.want))
			batch, err := consumer.FetchNoWait(10)
			same(t, fmt.Sprintf("%+v", one.config), bodies(fetched(t, batch, err)), one.want)
		}
	}
}

func TestOrderedConsumer(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "an ordered consumer reads everything, the old way and the new")
	js, stream, name := js(t, jetstream.StreamConfig{})
	count := 5_000
	for n := range count {
		_, err := js.PublishAsync(name+".x", fmt.Append(nil, n))
		kit.Check(t, err, "publish")
	}
	<-js.PublishAsyncComplete()
	consumer, err := stream.OrderedConsumer(kit.Context(t), jetstream.OrderedConsumerConfig{})
	kit.Check(t, err, "ordered")
	iterator, err := consumer.Messages()
	kit.Check(t, err, "messages")
	defer iterator.Stop()
	for n := range count {
		message, err := iterator.Next()
		kit.Check(t, err, "next")
		same(t, "in order", string(message.Data()), n)
	}
	old, err := dial(t, kit.NATS(t)).JetStream()
	kit.Check(t, err, "jetstream")
	sub, err := old.SubscribeSync(name+".>", nats.OrderedConsumer())
	kit.Check(t, err, "subscribe")
	for n := range count {
		same(t, "in order", string(next(t, sub).Data), n)
	}
}

func TestPushConsumers(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "push consumers deliver to subscribers and queue groups")
	js, _, name := js(t, jetstream.StreamConfig{})
	old, err := dial(t, kit.NATS(t)).JetStream()
	kit.Check(t, err, "jetstream")
	plain, err := old.SubscribeSync(name+".>", nats.Durable("plain"), nats.ManualAck())
	kit.Check(t, err, "subscribe")
	var counts [2]atomic.Int64
	for member := range counts {
		_, err := old.QueueSubscribe(name+".>", "group", func(message *nats.Msg) { counts[member].Add(1) }, nats.Durable("group"))
		kit.Check(t, err, "queue subscribe")
	}
	put(t, js, name+".x", numbers(0, 200)...)
	for n := range 200 {
		message := next(t, plain)
		same(t, "in order", string(message.Data), n)
		kit.Check(t, message.AckSync(), "ack")
	}
	kit.Eventually(t, "the group has all", func() bool { return counts[0].Load()+counts[1].Load() == 200 })
	info, err := old.ConsumerInfo(name, "plain")
	kit.Check(t, err, "info")
	if info.NumAckPending != 0 || !info.PushBound {
		t.Fatalf("%+v", info)
	}
}

func TestConsumersAreListedAndDeleted(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "consumers are listed, changed, paused and deleted")
	_, stream, _ := js(t, jetstream.StreamConfig{})
	ctx := kit.Context(t)
	for _, name := range []string{"a", "b"} {
		_, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: name})
		kit.Check(t, err, "create a consumer")
	}
	var names []string
	for name := range stream.ConsumerNames(ctx).Name() {
		names = append(names, name)
	}
	same(t, "names", names, []string{"a", "b"})
	changed, err := stream.UpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "a", MaxDeliver: 7})
	kit.Check(t, err, "update")
	same(t, "changed", changed.CachedInfo().Config.MaxDeliver, 7)
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "a", MaxDeliver: 8})
	if !errors.Is(err, jetstream.ErrConsumerExists) {
		t.Fatalf("create again: %v", err)
	}
	_, err = stream.UpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "z"})
	if !errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
		t.Fatalf("update what is not there: %v", err)
	}
	paused, err := stream.PauseConsumer(ctx, "b", time.Now().Add(time.Hour))
	kit.Check(t, err, "pause")
	same(t, "paused", paused.Paused, true)
	resumed, err := stream.ResumeConsumer(ctx, "b")
	kit.Check(t, err, "resume")
	same(t, "paused", resumed.Paused, false)
	kit.Check(t, stream.DeleteConsumer(ctx, "a"), "delete")
	if _, err := stream.Consumer(ctx, "a"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Fatalf("after it was deleted: %v", err)
	}
}

func TestKeyValue(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a key-value bucket keeps values, their history and revisions")
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx, bucket := kit.Context(t), kit.Name("bucket")
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, History: 5})
	kit.Check(t, err, "create a bucket")
	revision, err := kv.Create(ctx, "name", []byte("derek"))
	kit.Check(t, err, "create")
	if _, err := kv.Create(ctx, "name", nil); !errors.Is(err, jetstream.ErrKeyExists) {
		t.Fatalf("create again: %v", err)
	}
	revision, err = kv.Update(ctx, "name", []byte("rip"), revision)
	kit.Check(t, err, "update")
	if _, err := kv.Update(ctx, "name", nil, revision-1); err == nil {
		t.Fatal("an update of an old revision")
	}
	entry, err := kv.Get(ctx, "name")
	kit.Check(t, err, "get")
	same(t, "entry", []any{string(entry.Value()), entry.Revision()}, []any{"rip", revision})
	_, err = kv.PutString(ctx, "age", "22")
	kit.Check(t, err, "put")
	history, err := kv.History(ctx, "name")
	kit.Check(t, err, "history")
	same(t, "history", len(history), 2)
	keys, err := kv.Keys(ctx)
	kit.Check(t, err, "keys")
	slices.Sort(keys)
	same(t, "keys", keys, []string{"age", "name"})
	kit.Check(t, kv.Delete(ctx, "age"), "delete")
	if _, err := kv.Get(ctx, "age"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Fatalf("after it was deleted: %v", err)
	}
	_, err = kv.Create(ctx, "age", []byte("23"))
	kit.Check(t, err, "create what was deleted")
	kit.Check(t, kv.Purge(ctx, "name"), "purge")
	status, err := kv.Status(ctx)
	kit.Check(t, err, "status")
	same(t, "history", status.History(), 5)
	kit.Check(t, js.DeleteKeyValue(ctx, bucket), "delete the bucket")
}

func TestKeyValueWatch(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a watcher sees the present values of a bucket, then every change")
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
	defer cancel()
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: kit.Name("bucket")})
	kit.Check(t, err, "create a bucket")
	for _, pair := range [][2]string{{"a.x", "1"}, {"a.y", "2"}, {"b.x", "3"}, {"a.x", "4"}} {
		_, err = kv.PutString(ctx, pair[0], pair[1])
		kit.Check(t, err, "put")
	}
	watcher, err := kv.Watch(ctx, "a.*")
	kit.Check(t, err, "watch")
	defer func() { _ = watcher.Stop() }()
	seen := func() string {
		t.Helper()
		select {
		case entry := <-watcher.Updates():
			if entry == nil {
				return "all"
			}
			return fmt.Sprintf("%s %s %s", entry.Key(), entry.Value(), entry.Operation())
		case <-ctx.Done():
			t.Fatal("nothing came")
			return ""
		}
	}
	same(t, "at first", []string{seen(), seen(), seen()}, []string{"a.y 2 KeyValuePutOp", "a.x 4 KeyValuePutOp", "all"})
	_, err = kv.PutString(ctx, "a.z", "5")
	kit.Check(t, err, "put")
	kit.Check(t, kv.Delete(ctx, "a.x"), "delete")
	same(t, "then", []string{seen(), seen()}, []string{"a.z 5 KeyValuePutOp", "a.x  KeyValueDeleteOp"})
}

func TestObjectStore(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "an object store keeps objects in chunks")
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx := kit.Context(t)
	store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: kit.Name("objects")})
	kit.Check(t, err, "create a store")
	body := make([]byte, 1_000_000)
	for at := range body {
		body[at] = byte(at * 31)
	}
	info, err := store.PutBytes(ctx, "big", body)
	kit.Check(t, err, "put")
	same(t, "chunks", info.Chunks, 8)
	got, err := store.GetBytes(ctx, "big")
	kit.Check(t, err, "get")
	if !slices.Equal(got, body) {
		t.Fatal("it came back changed")
	}
	_, err = store.PutString(ctx, "small", "text")
	kit.Check(t, err, "put")
	list, err := store.List(ctx)
	kit.Check(t, err, "list")
	same(t, "list", len(list), 2)
	kit.Check(t, store.Delete(ctx, "big"), "delete")
	if _, err := store.GetBytes(ctx, "big"); !errors.Is(err, jetstream.ErrObjectNotFound) {
		t.Fatalf("after it was deleted: %v", err)
	}
}

func TestConsumersSurviveACrash(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "what was acknowledged with an answer stays so after the process is killed")
	broker := kit.StartBroker(t)
	js, err := jetstream.New(dial(t, "nats://"+broker.NATS))
	kit.Check(t, err, "jetstream")
	ctx := kit.Context(t)
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	kit.Check(t, err, "create a stream")
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "worker", AckWait: time.Second})
	kit.Check(t, err, "create a consumer")
	put(t, js, "s.a", numbers(0, 10)...)
	batch, err := consumer.Fetch(6)
	for _, message := range fetched(t, batch, err)[:4] {
		kit.Check(t, message.DoubleAck(ctx), "double ack")
	}
	broker.Kill()
	broker.Start()
	var left []string
	kit.Eventually(t, "the rest comes", func() bool {
		consumer, err := js.Consumer(ctx, "S", "worker")
		if err != nil {
			return false
		}
		batch, err := consumer.Fetch(10, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return false
		}
		for message := range batch.Messages() {
			left = append(left, string(message.Data()))
			_ = message.DoubleAck(ctx)
		}
		return len(left) >= 6
	})
	slices.Sort(left)
	same(t, "the rest", left, []string{"4", "5", "6", "7", "8", "9"})
}
