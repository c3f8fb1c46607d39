package kit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Broker is one that a test owns: it may be killed and started again on the same data and address.
type Broker struct {
	t       testing.TB
	folder  string
	extra   []string
	process *exec.Cmd
	exited  chan error
	// Kafka, AMQP, AWS, NATS and Admin are host:port, the same after every start.
	Kafka, AMQP, AWS, NATS, Admin string
}

// StartBroker starts the binary on an empty directory, with extra arguments after the usual ones.
func StartBroker(t testing.TB, extra ...string) *Broker {
	t.Helper()
	b := NewBroker(t, extra...)
	b.Start()
	return b
}

// NewBroker is one that is not started, with an empty directory.
func NewBroker(t testing.TB, extra ...string) *Broker {
	t.Helper()
	b := &Broker{t: t, folder: t.TempDir(), extra: extra, Kafka: "127.0.0.1:0", AMQP: "127.0.0.1:0", AWS: "127.0.0.1:0", NATS: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	t.Cleanup(b.Kill)
	return b
}

// Data is its data directory.
func (b *Broker) Data() string {
	return filepath.Join(b.folder, "data")
}

// Start runs the binary and returns when it is ready.
func (b *Broker) Start() {
	b.t.Helper()
	Check(b.t, b.TryStart(), "start the broker")
}

// TryStart runs the binary and returns when it is ready, or with what it said when it does not start.
func (b *Broker) TryStart() error {
	b.t.Helper()
	ready := filepath.Join(b.folder, "ready.json")
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		b.t.Fatalf("ready file: %v", err)
	}
	args := []string{"serve", "--data-dir", b.Data(), "--ready-file", ready,
		"--listen", "kafka=" + b.Kafka, "--listen", "amqp=" + b.AMQP, "--listen", "aws=" + b.AWS, "--listen", "nats=" + b.NATS, "--listen", "admin=" + b.Admin,
		"--kafka-initial-rebalance-delay-ms", "0"}
	for _, name := range []string{"redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin"} {
		args = append(args, "--listen", name+"=off")
	}
	b.process = exec.Command(Binary(b.t), append(args, b.extra...)...)
	log, err := os.OpenFile(filepath.Join(b.folder, "broker.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	Check(b.t, err, "open the broker's log")
	defer log.Close()
	b.process.Stdout, b.process.Stderr = log, log
	Check(b.t, b.process.Start(), "start the broker")
	b.exited = make(chan error, 1)
	go func(process *exec.Cmd, exited chan<- error) { exited <- process.Wait() }(b.process, b.exited)
	return b.awaitReady(ready)
}

func (b *Broker) awaitReady(ready string) error {
	b.t.Helper()
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-b.exited:
			b.process = nil
			return fmt.Errorf("the broker ended before it was ready: %w\n%s", err, b.Log())
		default:
		}
		text, err := os.ReadFile(ready)
		if err != nil {
			continue
		}
		addresses := map[string]string{}
		Check(b.t, json.Unmarshal(text, &addresses), "read the ready file")
		b.Kafka, b.AMQP, b.AWS = addresses["kafka"], addresses["amqp"], addresses["aws"]
		b.NATS, b.Admin = addresses["nats"], addresses["admin"]
		return nil
	}
	return fmt.Errorf("the broker was not ready after %s\n%s", Patience, b.Log())
}

// Kill ends the process at once, as a power cut ends it; a broker that is down already stays down.
func (b *Broker) Kill() {
	if b.process == nil {
		return
	}
	if err := b.process.Process.Kill(); err != nil {
		b.t.Errorf("kill the broker: %v", err)
	}
	<-b.exited
	b.process = nil
}

// Stop asks the process to end in order, and fails the test when it does not.
func (b *Broker) Stop() {
	b.t.Helper()
	Check(b.t, b.process.Process.Signal(syscall.SIGTERM), "stop the broker")
	select {
	case err := <-b.exited:
		b.process = nil
		if err != nil {
			b.t.Fatalf("the broker did not stop in order: %v\n%s", err, b.Log())
		}
	case <-time.After(Patience):
		b.t.Fatalf("the broker did not stop within %s", Patience)
	}
}

// Command runs a command of the binary against this broker, and gives what it printed.
func (b *Broker) Command(words ...string) string {
	b.t.Helper()
	words = append(words, "--admin", "http://"+b.Admin)
	output, err := exec.Command(Binary(b.t), words...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("wiremill %v: %v\n%s", words, err, output)
	}
	return string(output)
}

// Log is what the broker wrote so far.
func (b *Broker) Log() string {
	text, err := os.ReadFile(filepath.Join(b.folder, "broker.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// MemoryPeak is the most memory that the process has held, bytes.
func (b *Broker) MemoryPeak() int {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.process.Process.Pid))
	Check(b.t, err, "read the state of the process")
	for line := range strings.Lines(string(text)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	b.t.Fatalf("no VmHWM in\n%s", text)
	return 0
}
