package nats_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

// storm publishes as fast as the client library lets it, until stop; the values that were acknowledged.
func storm(t testing.TB, js jetstream.JetStream, publisher int, stop *atomic.Bool) []string {
	var acknowledged []string
	type sent struct {
		value string
		ack   jetstream.PubAckFuture
	}
	window := make(chan sent, kit.StormWindow)
	var taking sync.WaitGroup
	taking.Go(func() {
		for one := range window {
			select {
			case <-one.ack.Ok():
				acknowledged = append(acknowledged, one.value)
			case <-one.ack.Err():
			}
		}
	})
	filler := strings.Repeat("x", kit.StormBodyLen)
	for n := 0; !stop.Load(); n++ {
		value := fmt.Sprintf("%d:%d ", publisher, n)
		ack, err := js.PublishAsync("storm", []byte(value+filler), jetstream.WithRetryAttempts(0))
		if err != nil {
			t.Errorf("publish: %v", err)
			break
		}
		window <- sent{value, ack}
	}
	close(window)
	taking.Wait()
	return acknowledged
}

// quiet is what another tenant does meanwhile: how long its requests took, and how many messages it stored.
func quiet(t testing.TB, broker *kit.Broker, until time.Time) ([]time.Duration, int) {
	t.Helper()
	nc := dial(t, "nats://"+broker.NATS, nats.UserInfo("quiet", password))
	_, err := nc.Subscribe("echo", func(request *nats.Msg) { _ = request.Respond(request.Data) })
	kit.Check(t, err, "subscribe")
	js, err := jetstream.New(nc)
	kit.Check(t, err, "jetstream")
	_, err = js.CreateStream(kit.Context(t), jetstream.StreamConfig{Name: "QUIET", Subjects: []string{"quiet"}})
	kit.Check(t, err, "create a stream")
	var took []time.Duration
	stored := 0
	for time.Now().Before(until) {
		for range 20 {
			began := time.Now()
			_, err := nc.Request("echo", nil, kit.Patience)
			kit.Check(t, err, "request")
			took = append(took, time.Since(began))
		}
		_, err := js.Publish(kit.Context(t), "quiet", []byte("x"))
		kit.Check(t, err, "publish")
		stored++
	}
	return took, stored
}

func TestOverload(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "many times more than the disk takes: memory stays within its budget, another tenant is served, nothing acknowledged is lost, and it is over at once")
	broker := guarded(t, kit.StormArguments()...)
	for _, name := range []string{"stormy", "quiet"} {
		broker.Command("user", "add", name, "--password", password, "--tenant", name, "--as", "root:"+password)
	}
	client := func() jetstream.JetStream {
		js, err := jetstream.New(dial(t, "nats://"+broker.NATS, nats.UserInfo("stormy", password)),
			jetstream.WithPublishAsyncMaxPending(kit.StormWindow), jetstream.WithPublishAsyncTimeout(kit.Patience))
		kit.Check(t, err, "jetstream")
		return js
	}
	js := client()
	_, err := js.CreateStream(kit.Context(t), jetstream.StreamConfig{Name: "STORM", Subjects: []string{"storm"}})
	kit.Check(t, err, "create a stream")

	var stop atomic.Bool
	var storming sync.WaitGroup
	acknowledged := make([][]string, kit.StormPublishers)
	for publisher := range kit.StormPublishers {
		js := client()
		storming.Go(func() { acknowledged[publisher] = storm(t, js, publisher, &stop) })
	}
	took, stored := quiet(t, broker, time.Now().Add(kit.StormTime(t)))
	peak := broker.MemoryPeak()
	stop.Store(true)
	over := time.Now()
	storming.Wait()
	_, err = js.Publish(kit.Context(t), "storm", []byte("-:0 after"))
	kit.Check(t, err, "publish afterwards")
	recovered := time.Since(over)

	slices.Sort(took)
	p99 := took[len(took)*99/100]
	total := len(slices.Concat(acknowledged...))
	t.Logf("%d acknowledged, peak %d MiB, another tenant: %d stored, %d requests with p99 %s; over after %s", total, peak>>20, stored, len(took), p99, recovered)
	kit.CheckStormPeak(t, peak)
	// Behind the storm a request would wait for seconds; the machine is shared with the tests beside this one.
	if p99 > time.Second {
		t.Errorf("another tenant's requests took %s (p99)", p99)
	}
	if total < kit.StormPublishers || stored < kit.StormServed(t, 5*time.Second) {
		t.Errorf("only %d and %d messages were stored", total, stored)
	}
	kit.CheckStormEnd(t, recovered)
	broker.Kill()
	broker.Start()
	checkStorm(t, client(), acknowledged)
}

// checkStorm finds every acknowledged value in the stream.
func checkStorm(t testing.TB, js jetstream.JetStream, acknowledged [][]string) {
	t.Helper()
	stream, err := js.Stream(kit.Context(t), "STORM")
	kit.Check(t, err, "stream")
	missing := map[string]bool{}
	for _, value := range slices.Concat(acknowledged...) {
		missing[value] = true
	}
	consumer, err := stream.CreateConsumer(kit.Context(t), jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy})
	kit.Check(t, err, "consumer")
	ctx, cancel := context.WithTimeout(context.Background(), kit.Patience)
	defer cancel()
	for left := stream.CachedInfo().State.Msgs; left > 0; {
		batch, err := consumer.Fetch(int(min(50, left)), jetstream.FetchContext(ctx))
		for _, message := range fetched(t, batch, err) {
			value, _, _ := strings.Cut(string(message.Data()), "x")
			delete(missing, value)
			left--
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d acknowledged messages are lost", len(missing))
	}
}
