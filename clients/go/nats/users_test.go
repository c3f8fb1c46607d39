package nats_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"wiremill/clients/kit"
)

// refusals are the permissions violations that a client is told of.
type refusals chan error

func (r refusals) option() nats.Option {
	return nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { r <- err })
}

func (r refusals) expect(t testing.TB, text string) {
	t.Helper()
	select {
	case err := <-r:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), text) {
			t.Fatalf("got %v, not a violation for %s", err, text)
		}
	case <-time.After(kit.Patience):
		t.Fatalf("nobody is told of a violation for %s", text)
	}
}

// none checks that nothing else was refused.
func (r refusals) none(t testing.TB, nc *nats.Conn) {
	t.Helper()
	flush(t, nc)
	if len(r) != 0 {
		t.Fatal(<-r)
	}
}

// user adds one, and connects as it.
func userOf(t testing.TB, broker *kit.Broker, name string, permissions ...string) (*nats.Conn, refusals) {
	t.Helper()
	words := []string{"user", "add", name, "--password", password, "--as", "root:" + password}
	broker.Command(append(words, permissions...)...)
	told := make(refusals, 8)
	return dial(t, "nats://"+broker.NATS, nats.UserInfo(name, password), told.option()), told
}

// guarded is a broker with an administrator.
func guarded(t testing.TB, extra ...string) *kit.Broker {
	t.Helper()
	broker := kit.StartBroker(t, extra...)
	broker.Command("user", "add", "root", "--password", password, "--allow", "admin:*")
	return broker
}

func refusedToConnect(t testing.TB, url string, options ...nats.Option) {
	t.Helper()
	if nc, err := nats.Connect(url, options...); !errors.Is(err, nats.ErrAuthorization) {
		if err == nil {
			nc.Close()
		}
		t.Errorf("a stranger: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "users are let in by a token, until it is taken away")
	broker := guarded(t)
	url, root := "nats://"+broker.NATS, "root:"+password
	broker.Command("user", "add", "service", "--token", "a-long-token", "--token", "another-token", "--as", root)
	nc := dial(t, url, nats.Token("a-long-token"))
	sub := subscribe(t, nc, "a")
	publish(t, dial(t, url, nats.TokenHandler(func() string { return "another-token" })), "a", "1")
	expect(t, sub, "1")
	refusedToConnect(t, url, nats.Token("a-wrong-token"))
	refusedToConnect(t, url)
	broker.Command("user", "add", "service", "--no-token", "another-token", "--as", root)
	refusedToConnect(t, url, nats.Token("another-token"))
}

func TestNkeys(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "users are let in by an nkey, whose owner signs what the server asks")
	broker := guarded(t)
	url := "nats://" + broker.NATS
	pair := func() (string, nats.SignatureHandler) {
		key, err := nkeys.CreateUser()
		kit.Check(t, err, "make a key")
		public, err := key.PublicKey()
		kit.Check(t, err, "its public half")
		return public, key.Sign
	}
	known, sign := pair()
	stranger, signOther := pair()
	broker.Command("user", "add", "service", "--nkey", known, "--as", "root:"+password)
	nc := dial(t, url, nats.Nkey(known, sign))
	sub := subscribe(t, nc, "a")
	publish(t, nc, "a", "1")
	expect(t, sub, "1")
	refusedToConnect(t, url, nats.Nkey(known, signOther))
	refusedToConnect(t, url, nats.Nkey(stranger, signOther))
}

func TestDenials(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "what a user is denied is refused whatever else allows it, and a wildcard does not bring it")
	broker := guarded(t)
	root := dial(t, "nats://"+broker.NATS, nats.UserInfo("root", password))
	nc, told := userOf(t, broker, "clerk", "--deny", "write:orders.secret", "--deny", "read:audit.*")
	sub := subscribe(t, nc, ">")
	told.none(t, nc)
	publish(t, nc, "orders.created", "1")
	publish(t, nc, "orders.secret", "2")
	told.expect(t, `Publish to "orders.secret"`)
	publish(t, root, "audit.log", "3")
	publish(t, root, "orders.secret", "4")
	expect(t, sub, "1", "4")
	subscribe(t, nc, "audit.log")
	told.expect(t, `Subscription to "audit.log"`)
	told.none(t, nc)
}

func TestQueuePermissions(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a user may be held to queue groups")
	broker := guarded(t)
	nc, told := userOf(t, broker, "worker", "--allow", "read:jobs v1*", "--deny", "read:jobs v1.old")
	join := func(group string) {
		t.Helper()
		_, err := nc.QueueSubscribeSync("jobs", group)
		kit.Check(t, err, "subscribe")
		flush(t, nc)
	}
	join("v1")
	join("v1.new")
	told.none(t, nc)
	join("v2")
	told.expect(t, `Subscription to "jobs" using queue "v2"`)
	join("v1.old")
	told.expect(t, `Subscription to "jobs" using queue "v1.old"`)
	subscribe(t, nc, "jobs")
	told.expect(t, `Subscription to "jobs"`)
	told.none(t, nc)
}

func TestResponses(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a service may answer what it was asked, once, and publish nowhere else")
	broker := guarded(t)
	service, told := userOf(t, broker, "service", "--allow", "read:api.*", "--allow", "respond:*")
	sub := subscribe(t, service, "api.users")
	told.none(t, service)
	asker := dial(t, "nats://"+broker.NATS, nats.UserInfo("root", password))
	inbox := nats.NewInbox()
	answers := subscribe(t, asker, inbox)
	kit.Check(t, asker.PublishRequest("api.users", inbox, []byte("7")), "ask")
	request := next(t, sub)
	kit.Check(t, request.Respond([]byte("user 7")), "answer")
	expect(t, answers, "user 7")
	told.none(t, service)
	kit.Check(t, request.Respond([]byte("again")), "answer twice")
	told.expect(t, fmt.Sprintf("Publish to %q", inbox))
	publish(t, service, "elsewhere", "x")
	told.expect(t, `Publish to "elsewhere"`)
	kit.Check(t, service.Publish(nats.NewInbox(), nil), "answer what was not asked")
	told.expect(t, "Publish to")
	none(t, asker, answers)
}

func TestTLSFirst(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "TLS may begin before the first line, always or where the client begins it")
	certificate, key := selfSigned(t)
	tls := []string{"--tls-cert", "", "--tls-key", ""}
	tls[1], tls[3] = "nats="+certificate, "nats="+key
	always := kit.StartBroker(t, append(tls, "--nats-tls-first", "always")...)
	auto := kit.StartBroker(t, append(tls, "--nats-tls-first", "auto")...)
	works := func(broker *kit.Broker, options ...nats.Option) {
		t.Helper()
		var nc *nats.Conn
		// In `auto`, a client that begins later than 50 ms after its connection comes too late, which a busy one may.
		kit.Eventually(t, "it is let in", func() bool {
			var err error
			nc, err = nats.Connect("tls://"+broker.NATS, append(options, nats.RootCAs(certificate), nats.Timeout(kit.Patience))...)
			return err == nil
		})
		t.Cleanup(nc.Close)
		sub := subscribe(t, nc, "a")
		publish(t, nc, "a", numbers(0, 100)...)
		expect(t, sub, numbers(0, 100)...)
	}
	works(always, nats.TLSHandshakeFirst())
	works(auto, nats.TLSHandshakeFirst())
	works(auto)
	if nc, err := nats.Connect("tls://"+always.NATS, nats.RootCAs(certificate), nats.Timeout(300*time.Millisecond)); err == nil {
		nc.Close()
		t.Error("a client that waits for the first line got one")
	}
}

func TestLameDuck(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "clients of a server that goes are told, and are at another with their subscriptions when it is gone")
	leaving, staying := kit.StartBroker(t), kit.StartBroker(t)
	told := make(chan struct{}, 4)
	nc := dial(t, "nats://"+leaving.NATS+",nats://"+staying.NATS, nats.DontRandomize(),
		nats.LameDuckModeHandler(func(*nats.Conn) { told <- struct{}{} }))
	sub := subscribe(t, nc, "news")
	same(t, "at first", nc.ConnectedAddr(), leaving.NATS)
	leaving.Stop()
	select {
	case <-told:
	case <-time.After(kit.Patience):
		t.Fatal("the client was not told")
	}
	kit.Eventually(t, "it is at the other", func() bool { return nc.IsConnected() && nc.ConnectedAddr() == staying.NATS })
	flush(t, nc)
	publish(t, dial(t, "nats://"+staying.NATS), "news", "1")
	expect(t, sub, "1")
}
