// Package kit is what the suites share: where the broker is, names that collide with nobody's, and the
// result line that each test leaves for the compatibility page.
package kit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Patience bounds every wait of every test: far above what a loaded machine needs, far below the limit
// of the suite.
const Patience = 60 * time.Second

// Kafka is the address of the shared broker's Kafka listener.
func Kafka(t testing.TB) string {
	t.Helper()
	return need(t, "WIREMILL_KAFKA")
}

// AWS is the URL of the shared broker's listener for the services of AWS.
func AWS(t testing.TB) string {
	t.Helper()
	return "http://" + need(t, "WIREMILL_AWS")
}

// AMQP is host:port of the shared broker's AMQP listener.
func AMQP(t testing.TB) string {
	t.Helper()
	return need(t, "WIREMILL_AMQP")
}

// NATS is the URL of the shared broker's NATS listener.
func NATS(t testing.TB) string {
	t.Helper()
	return "nats://" + need(t, "WIREMILL_NATS")
}

// Binary is the broker's program, for tests that start and kill one of their own.
func Binary(t testing.TB) string {
	t.Helper()
	return need(t, "WIREMILL_BIN")
}

func need(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run this suite through `cargo xtask test --only go`", name)
	}
	return value
}

var names atomic.Int64

// Name makes a name that no other test and no earlier run uses.
func Name(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, time.Now().UnixNano(), names.Add(1))
}

// Context ends with the test, or when patience does.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Check ends the test when err is not nil.
func Check(t testing.TB, err error, doing string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}

// Eventually waits until what holds, asking again and again.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain: %s", Patience, what)
		}
	}
}

// Client is a client library whose behaviour a test shows, and the protocol that it speaks.
type Client struct{ Name, Module, Protocol string }

// The clients of this suite.
var (
	Franz   = Client{"franz-go", "github.com/twmb/franz-go", "Kafka"}
	KafkaGo = Client{"kafka-go", "github.com/segmentio/kafka-go", "Kafka"}
	Sarama  = Client{"sarama", "github.com/IBM/sarama", "Kafka"}
	SQS     = Client{"aws-sdk-go-v2", "github.com/aws/aws-sdk-go-v2/service/sqs", "SQS"}
	NATSGo  = Client{"nats.go", "github.com/nats-io/nats.go", "NATS"}
	AMQP091 = Client{"amqp091-go", "github.com/rabbitmq/amqp091-go", "AMQP"}
	NATSCLI = Client{"natscli", "github.com/nats-io/natscli", "NATS"}
)

// Shows promises that this test demonstrates the capability with the client, and writes how it ended.
func Shows(t *testing.T, client Client, capability string) {
	t.Helper()
	version := moduleVersion(t, client.Module)
	t.Cleanup(func() {
		result := "passed"
		if t.Failed() {
			result = "failed"
		}
		record(t, map[string]string{
			"protocol": client.Protocol, "capability": capability, "client": client.Name, "version": version, "result": result,
		})
	})
}

// moduleVersion reads the pinned version from go.mod: a test binary carries no build information. Every
// package of tests lies one folder below it. The command line has a module of its own.
func moduleVersion(t *testing.T, module string) string {
	t.Helper()
	for _, folder := range []string{"..", filepath.Join("..", "natscli")} {
		text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
		Check(t, err, "read go.mod")
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
			if len(words) >= 2 && words[0] == module {
				return strings.TrimPrefix(words[1], "v")
			}
		}
	}
	t.Fatalf("%s is not in go.mod", module)
	return ""
}

var results sync.Mutex

func record(t *testing.T, result map[string]string) {
	folder := os.Getenv("WIREMILL_RESULTS")
	if folder == "" {
		return
	}
	line, err := json.Marshal(result)
	if err != nil {
		t.Errorf("result line: %v", err)
		return
	}
	results.Lock()
	defer results.Unlock()
	// One file per process: packages are tested side by side.
	path := filepath.Join(folder, fmt.Sprintf("go-%d.jsonl", os.Getpid()))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Errorf("result file: %v", err)
		return
	}
	defer file.Close()
	if _, err := file.Write(append(line, '\n')); err != nil {
		t.Errorf("result file: %v", err)
	}
}
