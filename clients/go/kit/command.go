package kit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Command is the `nats` command line, against one server.
type Command struct {
	t testing.TB
	// Arguments that come first: where the server is and who asks.
	first []string
	// A home of its own: it keeps contexts there.
	home string
}

// NATSCommand is the command line against the server at address (host:port), with more flags for all its calls.
// `cargo xtask test --only go` builds it from natscli/go.mod.
func NATSCommand(t testing.TB, address string, flags ...string) Command {
	t.Helper()
	return Command{t: t, first: append([]string{"--server", "nats://" + address, "--timeout", "30s"}, flags...), home: t.TempDir()}
}

// Try runs it, and gives what it printed and whether it ended well.
func (c Command) Try(words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return c.run(ctx, words)
}

func (c Command) run(ctx context.Context, words []string) (string, error) {
	binary, err := filepath.Abs(filepath.Join("..", ".bin", "nats"))
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, binary, append(c.first, words...)...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = Patience
	command.Env = append(os.Environ(), "HOME="+c.home, "XDG_CONFIG_HOME="+c.home, "NO_COLOR=1")
	output, err := command.CombinedOutput()
	return string(output), err
}

// Alongside runs it while the test goes on.
func (c Command) Alongside(words ...string) *Running {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	running := &Running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(running.done)
		running.output, running.err = c.run(ctx, words)
	}()
	c.t.Cleanup(func() { running.Interrupt() })
	return running
}

// Running is a command line that has not ended.
type Running struct {
	cancel context.CancelFunc
	done   chan struct{}
	output string
	err    error
}

// Wait waits for its end, and gives what it printed and whether it ended well.
func (r *Running) Wait() (string, error) {
	<-r.done
	return r.output, r.err
}

// Interrupt ends it as Ctrl-C does, and gives what it printed.
func (r *Running) Interrupt() string {
	r.cancel()
	<-r.done
	return r.output
}

// Run runs it, fails the test when it fails, and gives what it printed.
func (c Command) Run(words ...string) string {
	c.t.Helper()
	output, err := c.Try(words...)
	if err != nil {
		c.t.Fatalf("nats %s: %v\n%s", strings.Join(words, " "), err, output)
	}
	return output
}

// Says runs it, and fails the test when it does not print each of the texts.
func (c Command) Says(words []string, texts ...string) {
	c.t.Helper()
	output := c.Run(words...)
	for _, text := range texts {
		if !strings.Contains(output, text) {
			c.t.Fatalf("nats %s: no %q in\n%s", strings.Join(words, " "), text, output)
		}
	}
}
