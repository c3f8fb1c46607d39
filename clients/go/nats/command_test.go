package nats_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wiremill/clients/kit"
)

// What people do with the `nats` command line.

// command is the command line against a broker of the test's own.
func command(t testing.TB) (kit.Command, *kit.Broker) {
	t.Helper()
	broker := kit.StartBroker(t)
	return kit.NATSCommand(t, broker.NATS), broker
}

func TestCommandLive(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats pub, sub, request, reply and rtt")
	nats, broker := command(t)
	listening := nats.Alongside("sub", "greet.>", "--count", "3")
	serving := nats.Alongside("reply", "help", "at your service", "--count", "1")
	// A message that came too early would be gone.
	subscribed(t, broker, 2)
	nats.Says([]string{"request", "help", "me", "--raw"}, "at your service")
	for n := range 3 {
		nats.Run("pub", fmt.Sprintf("greet.%d", n), fmt.Sprintf("hello %d", n), "-H", "Trace:7")
	}
	output, err := listening.Wait()
	kit.Check(t, err, "sub")
	for _, text := range []string{"hello 0", "hello 1", "hello 2", "Trace: 7", `"greet.2"`} {
		if !strings.Contains(output, text) {
			t.Errorf("sub: no %q in\n%s", text, output)
		}
	}
	// It was told to answer once, and ends with an error whenever it ends.
	if output, _ := serving.Wait(); !strings.Contains(output, `Received on subject "help"`) {
		t.Errorf("reply:\n%s", output)
	}
	nats.Says([]string{"rtt", "1"}, broker.NATS)
}

func TestCommandStreams(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats stream add, info, ls, edit, report, get, view, purge, rmm and rm")
	nats, _ := command(t)
	nats.Says([]string{"stream", "add", "ORDERS", "--subjects", "orders.>", "--storage", "file", "--retention", "limits", "--max-age", "168h", "--defaults"},
		"Stream ORDERS was created", "orders.>")
	for n := range 5 {
		nats.Run("pub", "--jetstream", fmt.Sprintf("orders.%d", n), fmt.Sprintf("order %d", n))
	}
	nats.Says([]string{"stream", "ls", "--names"}, "ORDERS")
	nats.Says([]string{"stream", "info", "ORDERS"}, "Messages: 5", "Last Sequence: 5", "Maximum Age: 7d")
	nats.Says([]string{"stream", "subjects", "ORDERS"}, "orders.0", "orders.4")
	nats.Says([]string{"stream", "report"}, "ORDERS", "File", "5")
	nats.Says([]string{"stream", "get", "ORDERS", "3"}, "orders.2", "order 2")
	nats.Says([]string{"stream", "get", "ORDERS", "--last-for", "orders.4"}, "order 4")
	nats.Says([]string{"stream", "rmm", "ORDERS", "3", "--force"})
	if output, err := nats.Try("stream", "get", "ORDERS", "3"); err == nil || !strings.Contains(output, "no message found") {
		t.Errorf("a removed message: %v\n%s", err, output)
	}
	nats.Says([]string{"stream", "edit", "ORDERS", "--max-msgs", "100", "--force"}, "Maximum Messages: 100")
	nats.Says([]string{"stream", "purge", "ORDERS", "--force"}, "Messages: 0")
	nats.Run("stream", "rm", "ORDERS", "--force")
	nats.Says([]string{"stream", "ls"}, "No Streams defined")
}

func TestCommandConsumers(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats consumer add, info, ls, next, report, pause, resume and rm")
	nats, _ := command(t)
	nats.Run("stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults")
	nats.Says([]string{"consumer", "add", "ORDERS", "worker", "--pull", "--ack", "explicit", "--filter", "orders.created", "--wait", "30s", "--max-deliver", "5", "--defaults"},
		"worker", "Explicit", "Maximum Deliveries: 5")
	for n := range 4 {
		nats.Run("pub", "--jetstream", "orders.created", fmt.Sprintf("order %d", n))
	}
	nats.Run("pub", "--jetstream", "orders.shipped", "another")
	nats.Says([]string{"consumer", "next", "ORDERS", "worker", "--raw"}, "order 0")
	nats.Says([]string{"consumer", "next", "ORDERS", "worker", "--count", "2"}, "order 1", "order 2", "Acknowledged message")
	nats.Says([]string{"consumer", "next", "ORDERS", "worker", "--nak"}, "order 3")
	nats.Says([]string{"consumer", "next", "ORDERS", "worker"}, "order 3", "tries: 2", "pending: 0")
	nats.Says([]string{"consumer", "info", "ORDERS", "worker"}, "Outstanding Acks: 0", "Unprocessed Messages: 0", "Stream sequence: 4")
	nats.Says([]string{"consumer", "ls", "ORDERS", "--names"}, "worker")
	nats.Says([]string{"consumer", "report", "ORDERS"}, "worker", "Pull", "Explicit", "30.00s")
	nats.Says([]string{"consumer", "pause", "ORDERS", "worker", "1h", "--force"}, "Paused")
	nats.Run("consumer", "resume", "ORDERS", "worker", "--force")
	nats.Run("consumer", "rm", "ORDERS", "worker", "--force")
	nats.Says([]string{"consumer", "ls", "ORDERS"}, "No Consumers defined")
}

func TestCommandChecks(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats server check connection, jetstream, stream, consumer, message and kv: OK, and CRITICAL where something is")
	nats, _ := command(t)
	nats.Run("stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults")
	nats.Run("consumer", "add", "ORDERS", "worker", "--pull", "--ack", "explicit", "--defaults")
	nats.Run("kv", "add", "SETTINGS")
	for n := range 3 {
		nats.Run("pub", "--jetstream", "orders.created", fmt.Sprintf("order %d", n))
	}
	check := func(words ...string) []string { return append([]string{"server", "check"}, words...) }
	nats.Says(check("connection"), "OK Connection")
	nats.Says(check("jetstream"), "OK JetStream", "streams=2", "consumers=1")
	nats.Says(check("stream", "--stream", "ORDERS", "--msgs-critical", "2"), "OK ORDERS")
	nats.Says(check("consumer", "--stream", "ORDERS", "--consumer", "worker", "--unprocessed-critical", "10"), "OK ORDERS_worker", "pending=3")
	nats.Says(check("message", "--stream", "ORDERS", "--subject", "orders.created", "--content", "order 2", "--age-critical", "1h"), "OK Stream Message")
	nats.Says(check("kv", "--bucket", "SETTINGS"), "OK")
	for _, words := range [][]string{
		check("stream", "--stream", "ORDERS", "--msgs-critical", "3"),
		check("stream", "--stream", "NONE"),
		check("consumer", "--stream", "ORDERS", "--consumer", "worker", "--unprocessed-critical", "2"),
		check("consumer", "--stream", "ORDERS", "--consumer", "none"),
		check("message", "--stream", "ORDERS", "--subject", "orders.shipped"),
		check("message", "--stream", "ORDERS", "--subject", "orders.created", "--content", "other"),
		check("kv", "--bucket", "SETTINGS", "--key", "none"),
	} {
		if output, err := nats.Try(words...); err == nil || !strings.Contains(output, "CRITICAL") {
			t.Errorf("nats %v: %v\n%s", words, err, output)
		}
	}
}

func TestCommandKeyValue(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats kv add, put, get, create, update, history, ls, watch, del, purge and rm")
	nats, _ := command(t)
	nats.Says([]string{"kv", "add", "CONFIG", "--history", "5", "--ttl", "24h"}, "CONFIG", "History Kept: 5")
	watching := nats.Alongside("sub", "--stream", "KV_CONFIG", "$KV.CONFIG.>", "--count", "3")
	nats.Says([]string{"kv", "put", "CONFIG", "color", "red"}, "red")
	nats.Says([]string{"kv", "update", "CONFIG", "color", "blue", "1"}, "blue")
	if output, err := nats.Try("kv", "update", "CONFIG", "color", "green", "1"); err == nil || !strings.Contains(output, "wrong last sequence") {
		t.Errorf("an update of an old revision: %v\n%s", err, output)
	}
	if output, err := nats.Try("kv", "create", "CONFIG", "color", "green"); err == nil {
		t.Errorf("a key that is there was created\n%s", output)
	}
	nats.Says([]string{"kv", "create", "CONFIG", "size", "7"}, "7")
	nats.Says([]string{"kv", "get", "CONFIG", "color"}, "revision: 2", "blue")
	nats.Says([]string{"kv", "get", "CONFIG", "color", "--revision", "1", "--raw"}, "red")
	nats.Says([]string{"kv", "history", "CONFIG", "color"}, "red", "blue", "PUT")
	nats.Says([]string{"kv", "ls", "CONFIG"}, "color", "size")
	output, err := watching.Wait()
	if err != nil || !strings.Contains(output, "red") || !strings.Contains(output, "blue") {
		t.Errorf("what was watched: %v\n%s", err, output)
	}
	nats.Run("kv", "del", "CONFIG", "size", "--force")
	if output, err := nats.Try("kv", "get", "CONFIG", "size"); err == nil {
		t.Errorf("a deleted key\n%s", output)
	}
	nats.Run("kv", "purge", "CONFIG", "color", "--force")
	nats.Says([]string{"kv", "history", "CONFIG", "color"}, "PURGE")
	nats.Says([]string{"kv", "info", "CONFIG"}, "CONFIG", "Maximum Age: 1d")
	nats.Run("kv", "del", "CONFIG", "--force")
}

func TestCommandObjects(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats object add, put, get, ls, info, seal and del")
	nats, _ := command(t)
	nats.Says([]string{"object", "add", "FILES"}, "FILES")
	folder := t.TempDir()
	from, to := filepath.Join(folder, "from"), filepath.Join(folder, "to")
	body := strings.Repeat("all work and no play\n", 40_000)
	kit.Check(t, os.WriteFile(from, []byte(body), 0o600), "write a file")
	nats.Says([]string{"object", "put", "FILES", from, "--name", "manuscript", "--no-progress", "--force"}, "manuscript")
	nats.Says([]string{"object", "ls", "FILES"}, "manuscript")
	nats.Says([]string{"object", "info", "FILES", "manuscript"}, "Chunks: 7", "SHA-256")
	nats.Run("object", "get", "FILES", "manuscript", "--output", to, "--no-progress", "--force")
	got, err := os.ReadFile(to)
	kit.Check(t, err, "read the file")
	if string(got) != body {
		t.Error("it came back changed")
	}
	nats.Run("object", "del", "FILES", "manuscript", "--force")
	if output, err := nats.Try("object", "info", "FILES", "manuscript"); err == nil {
		t.Errorf("a deleted object\n%s", output)
	}
	nats.Run("object", "seal", "FILES", "--force")
	if output, err := nats.Try("object", "put", "FILES", from, "--no-progress", "--force"); err == nil {
		t.Errorf("a sealed store took an object\n%s", output)
	}
	nats.Run("object", "del", "FILES", "--force")
}

func TestCommandBenchmarks(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSCLI, "nats bench pub, sub, service, js and kv")
	nats, broker := command(t)
	bench := func(words ...string) []string {
		return append(append([]string{"bench"}, words...), "--msgs", "5000", "--no-progress")
	}
	receiving := nats.Alongside(bench("sub", "live", "--clients", "2")...)
	subscribed(t, broker, 2)
	nats.Says(bench("pub", "live", "--size", "1KiB"), "publisher stats")
	if output, err := receiving.Wait(); err != nil || !strings.Contains(output, "subscriber") || !strings.Contains(output, "msgs/sec") {
		t.Errorf("bench sub: %v\n%s", err, output)
	}
	nats.Says(bench("pub", "many", "--clients", "4", "--multisubject"), "aggregated stats")

	serving := nats.Alongside(bench("service", "serve", "answers", "--size", "16B")...)
	subscribed(t, broker, 1)
	nats.Says(bench("service", "request", "answers"), "msgs/sec", "P99")
	if output := serving.Interrupt(); !strings.Contains(output, "Starting Core NATS service") {
		t.Errorf("bench service serve:\n%s", output)
	}

	// With --create it asks for batches, which come with a later API level than ours.
	nats.Run("stream", "add", "BENCH", "--subjects", "bench.>", "--storage", "file", "--defaults")
	js := func(words ...string) []string {
		return append(bench(append([]string{"js"}, words...)...), "--stream", "BENCH")
	}
	nats.Says(js("pub", "sync", "bench.js", "--clients", "2"), "msgs/sec", "P99")
	nats.Says(js("pub", "async", "bench.js", "--batch", "500"), "msgs/sec")
	nats.Says([]string{"stream", "info", "BENCH"}, "Messages: 10,000")
	nats.Says(js("ordered"), "msgs/sec")
	nats.Says(js("consume", "--clients", "2", "--acks", "explicit"), "msgs/sec")
	nats.Run("consumer", "add", "BENCH", "fetching", "--pull", "--ack", "explicit", "--defaults")
	nats.Says(js("fetch", "--batch", "100", "--acks", "explicit", "--consumer", "fetching"), "msgs/sec")
	nats.Says(bench("kv", "put"), "msgs/sec")
	nats.Says(bench("kv", "get"), "msgs/sec")
}
