package nats_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

// Programs that people run against NATS today, as they write them: only the address differs. Each has a broker of its
// own, because their names are everybody's.

type user struct {
	ID       int
	Name     string
	Instance int
}

// userService answers as an instance of a service does, until its connection is drained.
func userService(t testing.TB, url string, instance int) *nats.Conn {
	t.Helper()
	nc := dial(t, url, nats.Name(fmt.Sprintf("users-%d", instance)))
	_, err := nc.QueueSubscribe("api.users.get", "users", func(request *nats.Msg) {
		var id int
		if err := json.Unmarshal(request.Data, &id); err != nil {
			t.Errorf("instance %d: %v", instance, err)
			return
		}
		answer, err := json.Marshal(user{ID: id, Name: fmt.Sprintf("user %d", id), Instance: instance})
		if err == nil {
			err = request.Respond(answer)
		}
		if err != nil {
			t.Errorf("instance %d: %v", instance, err)
		}
	})
	kit.Check(t, err, "subscribe")
	flush(t, nc)
	return nc
}

func TestProgramUserService(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "api.users.get on four instances, asked with two seconds' patience: each request is answered once, an instance that leaves loses none, and no instance is an error at once")
	url := "nats://" + kit.StartBroker(t).NATS
	const instances, requests = 4, 500
	var services []*nats.Conn
	for instance := range instances {
		services = append(services, userService(t, url, instance))
	}
	asker := dial(t, url)
	ask := func(id int) (user, error) {
		body, err := json.Marshal(id)
		if err != nil {
			return user{}, err
		}
		message, err := asker.Request("api.users.get", body, 2*time.Second)
		if err != nil {
			return user{}, err
		}
		var got user
		return got, json.Unmarshal(message.Data, &got)
	}
	answered := make([]int, instances)
	for id := range requests {
		if id == requests/2 {
			kit.Check(t, services[0].Drain(), "drain")
		}
		got, err := ask(id)
		if err != nil || got.ID != id || got.Name != fmt.Sprintf("user %d", id) {
			t.Fatalf("asked for %d: %+v, %v", id, got, err)
		}
		answered[got.Instance]++
	}
	for instance, count := range answered {
		if count == 0 {
			t.Errorf("instance %d was never asked", instance)
		}
	}
	for _, service := range services[1:] {
		kit.Check(t, service.Drain(), "drain")
	}
	for _, service := range services {
		kit.Eventually(t, "it is drained", service.IsClosed)
	}
	began := time.Now()
	if _, err := ask(1); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("nobody serves: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("that nobody serves was told after %s", took)
	}
}

func TestProgramEveryInstanceAnswers(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "api.users.get subscribed to by several instances without a group: all are asked, and the first answer is taken")
	url := "nats://" + kit.StartBroker(t).NATS
	const instances = 3
	asked := make(chan int, instances*10)
	for instance := range instances {
		nc := dial(t, url)
		_, err := nc.Subscribe("api.users.get", func(request *nats.Msg) {
			asked <- instance
			if err := request.Respond(fmt.Append(nil, instance)); err != nil {
				t.Errorf("instance %d: %v", instance, err)
			}
		})
		kit.Check(t, err, "subscribe")
		flush(t, nc)
	}
	nc := dial(t, url)
	for range 10 {
		_, err := nc.Request("api.users.get", nil, 2*time.Second)
		kit.Check(t, err, "request")
	}
	counts := make([]int, instances)
	for range instances * 10 {
		select {
		case instance := <-asked:
			counts[instance]++
		case <-time.After(kit.Patience):
			t.Fatalf("not all were asked: %v", counts)
		}
	}
	same(t, "asked", counts, []int{10, 10, 10})
}

const (
	sevenDays   = 7 * 24 * time.Hour
	orderCount  = 57
	orderStream = "ORDERS"
)

// orders is what a worker of ORDERS saw: refused once, then done.
type orders struct {
	mutex sync.Mutex
	times map[string]int
}

// isRefused counts a delivery, and says whether the worker fails it.
func (o *orders) isRefused(body string) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	if o.times == nil {
		o.times = map[string]int{}
	}
	o.times[body]++
	return body == "order 20" && o.times[body] == 1
}

func (o *orders) check(t testing.TB) {
	t.Helper()
	same(t, "orders", len(o.times), orderCount)
	for body, times := range o.times {
		if want := map[bool]int{true: 2, false: 1}[body == "order 20"]; times != want {
			t.Errorf("%s came %d times", body, times)
		}
	}
}

func TestProgramOrderProcessorOfTheOlderAPI(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "the older JetStreamContext: AddStream, AddConsumer order-processor, PullSubscribe, Fetch(10), Ack")
	nc := dial(t, "nats://"+kit.StartBroker(t).NATS)
	js, err := nc.JetStream()
	kit.Check(t, err, "jetstream")
	config := &nats.StreamConfig{Name: orderStream, Subjects: []string{"orders.>"}, Storage: nats.FileStorage, MaxAge: sevenDays}
	worker := &nats.ConsumerConfig{Durable: "order-processor", AckPolicy: nats.AckExplicitPolicy, AckWait: 30 * time.Second, FilterSubject: "orders.created"}
	// A service does this whenever it starts.
	for range 2 {
		_, err = js.AddStream(config)
		kit.Check(t, err, "add the stream")
		_, err = js.AddConsumer(orderStream, worker)
		kit.Check(t, err, "add the consumer")
	}
	for n := range orderCount {
		ack, err := js.Publish("orders.created", fmt.Appendf(nil, "order %d", n))
		kit.Check(t, err, "publish")
		same(t, "where it is", fmt.Sprint(ack.Stream, " ", ack.Sequence), fmt.Sprint(orderStream, " ", 2*n+1))
		_, err = js.Publish("orders.shipped", nil)
		kit.Check(t, err, "publish")
	}
	sub, err := js.PullSubscribe("orders.created", "order-processor", nats.Bind(orderStream, "order-processor"))
	kit.Check(t, err, "subscribe")
	seen, left := orders{}, orderCount
	for left > 0 {
		messages, err := sub.Fetch(10, nats.MaxWait(kit.Patience))
		kit.Check(t, err, "fetch")
		for _, message := range messages {
			if seen.isRefused(string(message.Data)) {
				kit.Check(t, message.Nak(), "nak")
				continue
			}
			kit.Check(t, message.Ack(), "ack")
			left--
		}
	}
	if messages, err := sub.Fetch(10, nats.MaxWait(200*time.Millisecond)); !errors.Is(err, nats.ErrTimeout) {
		t.Fatalf("afterwards: %v, %v", messages, err)
	}
	seen.check(t)
	info, err := js.ConsumerInfo(orderStream, "order-processor")
	kit.Check(t, err, "info")
	same(t, "settled", []any{info.NumAckPending, info.NumPending, info.Config.AckWait, info.Config.FilterSubject},
		[]any{0, 0, 30 * time.Second, "orders.created"})
	stream, err := js.StreamInfo(orderStream)
	kit.Check(t, err, "info")
	same(t, "kept", []any{stream.State.Msgs, stream.Config.MaxAge, stream.Config.Storage}, []any{2 * orderCount, sevenDays, nats.FileStorage})
}

func TestProgramOrderProcessorOfTheNewerAPI(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "the newer jetstream package: CreateOrUpdateStream, CreateOrUpdateConsumer order-processor, Fetch(10), Ack")
	js, err := jetstream.New(dial(t, "nats://"+kit.StartBroker(t).NATS))
	kit.Check(t, err, "jetstream")
	ctx := kit.Context(t)
	config := jetstream.StreamConfig{Name: orderStream, Subjects: []string{"orders.>"}, Storage: jetstream.FileStorage, MaxAge: sevenDays}
	worker := jetstream.ConsumerConfig{Durable: "order-processor", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second, FilterSubject: "orders.created"}
	var consumer jetstream.Consumer
	for range 2 {
		stream, err := js.CreateOrUpdateStream(ctx, config)
		kit.Check(t, err, "add the stream")
		consumer, err = stream.CreateOrUpdateConsumer(ctx, worker)
		kit.Check(t, err, "add the consumer")
	}
	for n := range orderCount {
		ack, err := js.Publish(ctx, "orders.created", fmt.Appendf(nil, "order %d", n))
		kit.Check(t, err, "publish")
		same(t, "where it is", fmt.Sprint(ack.Stream, " ", ack.Sequence), fmt.Sprint(orderStream, " ", 2*n+1))
		_, err = js.Publish(ctx, "orders.shipped", nil)
		kit.Check(t, err, "publish")
	}
	seen, left := orders{}, orderCount
	for left > 0 {
		batch, err := consumer.Fetch(10, jetstream.FetchMaxWait(5*time.Second))
		for _, message := range fetched(t, batch, err) {
			if seen.isRefused(string(message.Data())) {
				kit.Check(t, message.Nak(), "nak")
				continue
			}
			kit.Check(t, message.Ack(), "ack")
			left--
		}
	}
	seen.check(t)
	kit.Eventually(t, "all are settled", func() bool {
		info, err := consumer.Info(ctx)
		return err == nil && info.NumAckPending == 0 && info.NumPending == 0
	})
}
