package nats_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

// What Jepsen's file corrupter does to each kind of file: a bit is flipped, an end is cut off, a page is lost. What was
// acknowledged may then be refused or reported, never be silently gone or wrong, and no stream is deleted for it.

const (
	damageCount   = 500
	damageBodyLen = 12 << 10
)

// small makes files of every kind out of little data.
var small = []string{"--wal-file-len", "1MiB", "--uncheckpointed-len-max", "4MiB", "--failure-grace-ms", "0"}

func damageBody(stream string, n int) []byte {
	head := fmt.Appendf(nil, "%s %d ", stream, n)
	return append(head, bytes.Repeat([]byte{byte('a' + n%26)}, damageBodyLen-len(head))...)
}

// damageStreams are filled one after the other in turns, so that a file holds some of each.
var damageStreams = []string{"LEFT", "RIGHT"}

// filled is a data directory with files of every kind, of a broker that was killed.
func filled(t *testing.T) string {
	t.Helper()
	broker := kit.StartBroker(t, small...)
	js := jepsenJS(t, broker.NATS)
	for _, name := range damageStreams {
		_, err := js.CreateStream(kit.Context(t), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}, AllowDirect: true})
		kit.Check(t, err, "create "+name)
	}
	for n := range damageCount {
		for _, name := range damageStreams {
			ack, err := js.Publish(kit.Context(t), strings.ToLower(name), damageBody(name, n))
			kit.Check(t, err, "publish")
			same(t, "sequence", ack.Sequence, n+1)
		}
	}
	broker.Kill()
	return broker.Data()
}

// damagedFile is which file of a data directory is hurt: the last but `fromEnd` of those that match.
type damagedFile struct {
	kind, pattern string
	fromEnd       int
}

var damagedFiles = []damagedFile{
	{"the format", "FORMAT", 0},
	{"the newest checkpoint", "blobs/checkpoint-*", 0},
	{"the oldest checkpoint", "blobs/checkpoint-*", 1},
	{"a segment", "blobs/segment-*", 1},
	{"a sealed file of the log", "wal/*.wal", -1},
	{"the file of the log that was written last", "wal/*.wal", 0},
}

// find gives the file; unwritten files of the log, made ahead, are none.
func (d damagedFile) find(t *testing.T, data string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(data, d.pattern))
	kit.Check(t, err, "look for files")
	slices.Sort(paths)
	paths = slices.DeleteFunc(paths, func(path string) bool {
		text, err := os.ReadFile(path)
		kit.Check(t, err, "read "+path)
		return strings.HasSuffix(path, ".wal") && !bytes.Contains(text, []byte("LEFT ")) && !bytes.Contains(text, []byte("RIGHT "))
	})
	if len(paths) == 0 {
		t.Fatalf("no file is %s", d.kind)
	}
	if d.fromEnd < 0 {
		return paths[0]
	}
	return paths[max(0, len(paths)-1-d.fromEnd)]
}

var damages = []struct {
	what string
	do   func([]byte) []byte
}{
	{"a flipped bit", func(b []byte) []byte { b[len(b)/2] ^= 4; return b }},
	{"a flipped bit near the start", func(b []byte) []byte { b[min(len(b)-1, 40)] ^= 1; return b }},
	{"a cut end", func(b []byte) []byte { return b[:len(b)/2] }},
	{"a lost page", func(b []byte) []byte { clear(b[len(b)/2 : min(len(b), len(b)/2+4096)]); return b }},
}

func TestDamage(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "flipped bits, cut ends and lost pages in files of every kind: nothing acknowledged is silently lost or wrong, and no stream is deleted")
	sound := filled(t)
	slots := make(chan struct{}, 4)
	for _, file := range damagedFiles {
		for _, damage := range damages {
			t.Run(file.kind+", "+damage.what, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				broker := kit.NewBroker(t, small...)
				kit.Check(t, os.CopyFS(broker.Data(), os.DirFS(sound)), "copy the data")
				path := file.find(t, broker.Data())
				text, err := os.ReadFile(path)
				kit.Check(t, err, "read "+path)
				kit.Check(t, os.WriteFile(path, damage.do(text), 0o600), "write "+path)
				judgeDamage(t, broker, path)
			})
		}
	}
}

// judgeDamage starts a broker on damaged data: it refuses, naming the file, or serves, and reports what is lost.
func judgeDamage(t *testing.T, broker *kit.Broker, path string) {
	t.Helper()
	if err := broker.TryStart(); err != nil {
		if !isNamed(err.Error(), path) {
			t.Fatalf("the refusal does not name %s: %v", filepath.Base(path), err)
		}
		t.Log("refused")
		return
	}
	js := jepsenJS(t, broker.NATS)
	lost := 0
	for _, name := range damageStreams {
		stream, err := js.Stream(kit.Context(t), name)
		kit.Check(t, err, "the stream "+name)
		missing := readAll(t, stream, name)
		lost += len(missing)
		info, err := stream.Info(kit.Context(t))
		kit.Check(t, err, "info")
		if len(missing) > 0 && (info.State.Lost == nil || !containsAll(info.State.Lost.Msgs, missing)) {
			t.Errorf("%s: %v are not readable, and the state says %+v", name, missing, info.State.Lost)
		}
		ack, err := js.Publish(kit.Context(t), strings.ToLower(name), damageBody(name, damageCount))
		kit.Check(t, err, "publish to "+name)
		if ack.Sequence <= damageCount {
			t.Errorf("%s: the sequence %d was given again", name, ack.Sequence)
		}
		got, err := stream.GetMsg(kit.Context(t), ack.Sequence)
		kit.Check(t, err, "read what was just stored")
		same(t, "it", bytes.Equal(got.Data, damageBody(name, damageCount)), true)
	}
	if lost > 0 && !isNamed(broker.Log(), path) {
		t.Errorf("%d are lost, and the log does not name %s:\n%s", lost, filepath.Base(path), broker.Log())
	}
}

func containsAll(all, some []uint64) bool {
	return !slices.ContainsFunc(some, func(one uint64) bool { return !slices.Contains(all, one) })
}

// isNamed says whether a text names a file of the data directory: segments go by their number.
func isNamed(text, path string) bool {
	name := filepath.Base(path)
	if number, isSegment := strings.CutPrefix(name, "segment-"); isSegment {
		name = "Segment(" + strings.TrimLeft(number, "0") + ")"
		return strings.Contains(text, name) || strings.Contains(text, filepath.Base(path))
	}
	return strings.Contains(text, name)
}

// readAll reads each message of a stream, and gives the sequences of those that are not there.
func readAll(t *testing.T, stream jetstream.Stream, name string) []uint64 {
	t.Helper()
	var mutex sync.Mutex
	var missing []uint64
	var reading sync.WaitGroup
	const readers = 8
	for reader := range readers {
		reading.Go(func() {
			for n := reader; n < damageCount; n += readers {
				got, err := stream.GetMsg(kit.Context(t), uint64(n+1))
				if err != nil {
					if !errors.Is(err, jetstream.ErrMsgNotFound) {
						t.Logf("%s %d: %v", name, n+1, err)
					}
					mutex.Lock()
					missing = append(missing, uint64(n+1))
					mutex.Unlock()
					continue
				}
				if !bytes.Equal(got.Data, damageBody(name, n)) {
					t.Errorf("%s %d came back wrong", name, n+1)
				}
			}
		})
	}
	reading.Wait()
	return missing
}
