package nats_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"wiremill/clients/kit"
)

const password = "correct horse"

func TestReconnect(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "clients come back after a restart, with their subscriptions")
	broker := kit.StartBroker(t)
	subscriber, publisher := dial(t, "nats://"+broker.NATS), dial(t, "nats://"+broker.NATS)
	sub := subscribe(t, subscriber, "restart.>")
	publish(t, publisher, "restart.a", "before")
	expect(t, sub, "before")
	broker.Kill()
	broker.Start()
	kit.Eventually(t, "both are back", func() bool { return subscriber.Stats().Reconnects > 0 && publisher.Stats().Reconnects > 0 })
	flush(t, subscriber)
	publish(t, publisher, "restart.b", "after")
	expect(t, sub, "after")
}

func TestGoodbye(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a server that stops says so first")
	broker := kit.StartBroker(t)
	told := make(chan struct{}, 1)
	nc := dial(t, "nats://"+broker.NATS, nats.LameDuckModeHandler(func(*nats.Conn) { told <- struct{}{} }))
	flush(t, nc)
	broker.Stop()
	select {
	case <-told:
	case <-time.After(kit.Patience):
		t.Fatal("the client was not told")
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "users are let in by name and password, and nobody else")
	broker := kit.StartBroker(t)
	broker.Command("user", "add", "alice", "--password", password)
	url := "nats://" + broker.NATS
	nc := dial(t, url, nats.UserInfo("alice", password))
	sub := subscribe(t, nc, "a")
	publish(t, nc, "a", "1")
	expect(t, sub, "1")
	for _, wrong := range []nats.Option{nats.UserInfo("alice", "wrong"), nats.UserInfo("bob", password), nats.Token("x"), nats.Name("nobody")} {
		if _, err := nats.Connect(url, wrong); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("got %v", err)
		}
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "what a user may not publish or subscribe to is told as a permissions violation")
	broker := kit.StartBroker(t)
	broker.Command("user", "add", "root", "--password", password)
	broker.Command("user", "add", "tenant-7", "--password", password, "--as", "root:"+password, "--allow", "write:tenants.7.events.*", "--allow", "read:_INBOX.*")
	errs := make(chan error, 4)
	nc := dial(t, "nats://"+broker.NATS, nats.UserInfo("tenant-7", password), nats.PermissionErrOnSubscribe(true),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { errs <- err }))
	complaint := func() error {
		select {
		case err := <-errs:
			return err
		case <-time.After(kit.Patience):
			t.Fatal("nobody complains")
			return nil
		}
	}
	publish(t, nc, "tenants.7.events.a", "allowed")
	publish(t, nc, "tenants.8.events.a", "forbidden")
	err := complaint()
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Publish to "tenants.8.events.a"`) {
		t.Fatalf("publish: %v", err)
	}
	sub := subscribe(t, nc, "tenants.7.events.>")
	if err := complaint(); !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `Subscription to "tenants.7.events.>"`) {
		t.Fatalf("subscribe: %v", err)
	}
	if _, err := sub.NextMsgWithContext(kit.Context(t)); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatalf("the subscription: %v", err)
	}
	subscribe(t, nc, nats.NewInbox())
	flush(t, nc)
	if !nc.IsConnected() || len(errs) != 0 {
		t.Fatalf("a refusal costs the connection, or what is allowed was refused: %v", nc.LastError())
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "tenants do not hear each other")
	broker := kit.StartBroker(t)
	root := "root:" + password
	broker.Command("user", "add", "root", "--password", password, "--allow", "admin:*")
	broker.Command("user", "add", "a", "--password", password, "--tenant", "A", "--as", root)
	broker.Command("user", "add", "b", "--password", password, "--tenant", "B", "--as", root)
	a, b := dial(t, "nats://"+broker.NATS, nats.UserInfo("a", password)), dial(t, "nats://"+broker.NATS, nats.UserInfo("b", password))
	ofA, ofB := subscribe(t, a, ">"), subscribe(t, b, ">")
	publish(t, a, "x", "of a")
	publish(t, b, "x", "of b")
	expect(t, ofA, "of a")
	expect(t, ofB, "of b")
}

func TestTLS(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "TLS begins after the first line, and the certificate is verified")
	certificate, key := selfSigned(t)
	broker := kit.StartBroker(t, "--tls-cert", "nats="+certificate, "--tls-key", "nats="+key)
	nc := dial(t, "tls://"+broker.NATS, nats.RootCAs(certificate))
	if !nc.TLSRequired() {
		t.Error("the client is not told that TLS is needed")
	}
	sub := subscribe(t, nc, "a")
	publish(t, nc, "a", numbers(0, 1_000)...)
	expect(t, sub, numbers(0, 1_000)...)
	if other, err := nats.Connect("tls://" + broker.NATS); err == nil {
		other.Close()
		t.Fatal("a certificate that nobody vouches for was taken")
	}
}

func selfSigned(t testing.TB) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	kit.Check(t, err, "make a key")
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &private.PublicKey, private)
	kit.Check(t, err, "make a certificate")
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	kit.Check(t, err, "encode the key")
	folder := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(folder, name)
		kit.Check(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600), "write "+name)
		return path
	}
	return write("certificate.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}
