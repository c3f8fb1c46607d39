package nats_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

// A platform that gives each of its tenants a stream, a consumer and a user, with scripts over the command line.

const (
	tenGiB     = 10 << 30
	thirtyDays = 720 * time.Hour
)

// tenantBackoff is what `--backoff linear` makes of 1 s to 5 m in ten steps.
func tenantBackoff() []time.Duration {
	const steps, from, to = 10, time.Second, 5 * time.Minute
	waits := make([]time.Duration, steps)
	for step := range waits {
		waits[step] = from + (to-from)/steps*time.Duration(step)
	}
	return waits
}

// addTenant is the platform's script.
func addTenant(nats kit.Command, tenant string) {
	nats.Run("stream", "add", "tenant-"+tenant, "--subjects", "tenants."+tenant+".events.>", "--storage", "file", "--retention", "limits",
		"--max-age", "720h", "--max-bytes", "10GiB", "--replicas", "3", "--discard", "old", "--defaults")
	nats.Run("consumer", "add", "tenant-"+tenant, "events", "--pull", "--filter", "tenants."+tenant+".events.>", "--ack", "explicit",
		"--max-deliver", "10", "--wait", "30s", "--backoff", "linear", "--backoff-steps", "10", "--backoff-min", "1s", "--backoff-max", "5m", "--defaults")
}

func TestCommandTenants(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "a stream of three replicas, a consumer with linear backoff and a limited user for each tenant: made twice without harm, and the limits hold")
	broker := kit.StartBroker(t, "--single-node-replicas", "accept")
	root := "root:" + password
	broker.Command("user", "add", "root", "--password", password, "--allow", "admin:*")
	cli := kit.NATSCommand(t, broker.NATS, "--user", "root", "--password", password)
	for range 2 {
		for _, tenant := range []string{"7", "8"} {
			addTenant(cli, tenant)
			broker.Command("user", "add", "tenant-"+tenant, "--password", password, "--as", root,
				"--allow", "write:tenants."+tenant+".events.*", "--allow", "read:_INBOX.*")
		}
	}
	cli.Says([]string{"stream", "info", "tenant-7"}, "Replicas: 3", "Storage: File", "Retention: Limits", "Maximum Age: 30d", "Maximum Bytes: 10 GiB", "Discard Policy: Old")
	cli.Says([]string{"consumer", "info", "tenant-7", "events"}, "Filter Subject: tenants.7.events.>", "Explicit", "Maximum Deliveries: 10", "Backoff: 1s, 30.9s, 1m0.8s")

	url := "nats://" + broker.NATS
	errs := make(chan error, 8)
	tenant := dial(t, url, nats.UserInfo("tenant-7", password), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	js, err := jetstream.New(tenant)
	kit.Check(t, err, "jetstream")
	ack, err := js.Publish(kit.Context(t), "tenants.7.events.created", []byte("one"))
	kit.Check(t, err, "publish what is allowed")
	same(t, "stored", fmt.Sprint(ack.Stream, " ", ack.Sequence), "tenant-7 1")
	for _, forbidden := range []func() error{
		func() error { return tenant.Publish("tenants.8.events.created", nil) },
		func() error { return tenant.Publish("tenants.7.other", nil) },
		func() error { return tenant.PublishRequest("$JS.API.STREAM.DELETE.tenant-8", nats.NewInbox(), nil) },
		func() error { _, err := tenant.SubscribeSync("tenants.7.events.>"); return err },
		func() error { _, err := tenant.SubscribeSync(">"); return err },
	} {
		kit.Check(t, forbidden(), "send")
		flush(t, tenant)
		select {
		case err := <-errs:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Fatal(err)
			}
		case <-time.After(kit.Patience):
			t.Fatal("what is forbidden was not refused")
		}
	}
	subscribe(t, tenant, "_INBOX.>")
	if len(errs) != 0 {
		t.Fatal(<-errs)
	}
	as := kit.NATSCommand(t, broker.NATS, "--user", "tenant-8", "--password", password)
	as.Run("pub", "tenants.8.events.created", "two")
	cli.Says([]string{"stream", "info", "tenant-8"}, "Messages: 1")
	if output, err := kit.NATSCommand(t, broker.NATS, "--user", "tenant-8", "--password", "not his own").Try("pub", "tenants.8.events.created", "x"); err == nil || !strings.Contains(output, "Authorization Violation") {
		t.Errorf("a wrong password: %v\n%s", err, output)
	}

	// What is not acknowledged comes again after the first wait of the backoff, not after the 30 s.
	worker, err := jetstream.New(dial(t, url, nats.UserInfo("root", password)))
	kit.Check(t, err, "jetstream")
	consumer, err := worker.Consumer(kit.Context(t), "tenant-7", "events")
	kit.Check(t, err, "consumer")
	_, err = consumer.Next(jetstream.FetchMaxWait(kit.Patience))
	kit.Check(t, err, "next")
	began := time.Now()
	again, err := consumer.Next(jetstream.FetchMaxWait(kit.Patience))
	kit.Check(t, err, "next")
	if waited := time.Since(began); waited < 900*time.Millisecond || waited > 20*time.Second {
		t.Errorf("it came again after %s", waited)
	}
	kit.Check(t, again.Ack(), "ack")
}

// makeTenant makes the stream and the consumer that addTenant makes.
func makeTenant(ctx context.Context, js jetstream.JetStream, tenant int) error {
	name, subjects := fmt.Sprintf("tenant-%d", tenant), fmt.Sprintf("tenants.%d.events.>", tenant)
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{subjects}, Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, MaxAge: thirtyDays, MaxBytes: tenGiB, Replicas: 3, Discard: jetstream.DiscardOld})
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{Durable: "events", FilterSubject: subjects, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 10, AckWait: 30 * time.Second, BackOff: tenantBackoff()})
	if err != nil {
		return fmt.Errorf("create the consumer of %s: %w", name, err)
	}
	return nil
}

func TestAThousandTenants(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a thousand tenants' streams and consumers are made in seconds, and made again without harm")
	broker := kit.StartBroker(t, "--single-node-replicas", "accept")
	js, err := jetstream.New(dial(t, "nats://"+broker.NATS))
	kit.Check(t, err, "jetstream")
	const tenants, atOnce = 1_000, 8
	for _, round := range []string{"first", "again"} {
		began := time.Now()
		var making sync.WaitGroup
		errs := make([]error, atOnce)
		for maker := range atOnce {
			making.Go(func() {
				for tenant := maker; tenant < tenants && errs[maker] == nil; tenant += atOnce {
					errs[maker] = makeTenant(t.Context(), js, tenant)
				}
			})
		}
		making.Wait()
		kit.Check(t, errors.Join(errs...), round)
		took := time.Since(began)
		t.Logf("%d tenants, %s: %s", tenants, round, took)
		// Two syncs for each, and the disk is shared with the tests beside this one.
		if took > time.Minute {
			t.Errorf("%s: it took %s", round, took)
		}
	}
	info, err := js.AccountInfo(kit.Context(t))
	kit.Check(t, err, "account")
	same(t, "there are", []int{info.Streams, info.Consumers}, []int{tenants, tenants})
	for _, tenant := range []int{0, 499, 999} {
		put(t, js, fmt.Sprintf("tenants.%d.events.created", tenant), "one")
		consumer, err := js.Consumer(kit.Context(t), fmt.Sprintf("tenant-%d", tenant), "events")
		kit.Check(t, err, "consumer")
		same(t, "backoff", consumer.CachedInfo().Config.BackOff, tenantBackoff())
		message, err := consumer.Next(jetstream.FetchMaxWait(kit.Patience))
		kit.Check(t, err, "next")
		same(t, "its message", string(message.Data()), "one")
	}
}
