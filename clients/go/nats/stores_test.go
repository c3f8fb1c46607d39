package nats_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"wiremill/clients/kit"
)

func TestKeyValueTTL(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "values of a bucket with a TTL are gone when it is over")
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx := kit.Context(t)
	const ttl = 1500 * time.Millisecond
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: kit.Name("bucket"), TTL: ttl})
	kit.Check(t, err, "create a bucket")
	began := time.Now()
	_, err = kv.PutString(ctx, "session", "open")
	kit.Check(t, err, "put")
	_, err = kv.Get(ctx, "session")
	if err != nil && time.Since(began) < ttl {
		t.Fatalf("it is gone too early: %v", err)
	}
	kit.Eventually(t, "it is gone", func() bool {
		_, err := kv.Get(ctx, "session")
		return errors.Is(err, jetstream.ErrKeyNotFound)
	})
	if waited := time.Since(began); waited < ttl {
		t.Fatalf("it was gone after %s", waited)
	}
	_, err = kv.Create(ctx, "session", []byte("open again"))
	kit.Check(t, err, "create it again")
}

func TestKeyValueOfOneKeyTTL(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a key with a TTL of its own is gone when it is over, and a watcher is told by a marker")
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx := kit.Context(t)
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: kit.Name("bucket"), LimitMarkerTTL: time.Minute})
	kit.Check(t, err, "create a bucket")
	watcher, err := kv.WatchAll(ctx)
	kit.Check(t, err, "watch")
	defer func() { _ = watcher.Stop() }()
	_, err = kv.Create(ctx, "short", []byte("1"), jetstream.KeyTTL(time.Second))
	kit.Check(t, err, "create with a TTL")
	_, err = kv.Create(ctx, "long", []byte("2"))
	kit.Check(t, err, "create without")
	var seen []string
	for len(seen) < 4 {
		select {
		case entry := <-watcher.Updates():
			if entry == nil {
				seen = append(seen, "all")
				continue
			}
			seen = append(seen, fmt.Sprintf("%s %s", entry.Key(), entry.Operation()))
		case <-ctx.Done():
			t.Fatalf("seen: %v", seen)
		}
	}
	same(t, "seen", seen, []string{"all", "short KeyValuePutOp", "long KeyValuePutOp", "short KeyValuePurgeOp"})
	if _, err := kv.Get(ctx, "short"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Fatalf("after its TTL: %v", err)
	}
	_, err = kv.Get(ctx, "long")
	kit.Check(t, err, "get the other")
}

func TestObjectStoreWatch(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.NATSGo, "a watcher of an object store sees the present objects, then every change")
	js, err := jetstream.New(dial(t, kit.NATS(t)))
	kit.Check(t, err, "jetstream")
	ctx := kit.Context(t)
	store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: kit.Name("objects"), TTL: time.Hour})
	kit.Check(t, err, "create a store")
	_, err = store.PutString(ctx, "a", "1")
	kit.Check(t, err, "put")
	watcher, err := store.Watch(ctx)
	kit.Check(t, err, "watch")
	defer func() { _ = watcher.Stop() }()
	seen := func() string {
		t.Helper()
		select {
		case info := <-watcher.Updates():
			if info == nil {
				return "all"
			}
			return fmt.Sprintf("%s %d %t", info.Name, info.Size, info.Deleted)
		case <-ctx.Done():
			t.Fatal("nothing came")
			return ""
		}
	}
	same(t, "at first", []string{seen(), seen()}, []string{"a 1 false", "all"})
	_, err = store.PutString(ctx, "a", "22")
	kit.Check(t, err, "put again")
	_, err = store.PutString(ctx, "b", "333")
	kit.Check(t, err, "put another")
	kit.Check(t, store.Delete(ctx, "a"), "delete")
	same(t, "then", []string{seen(), seen(), seen()}, []string{"a 2 false", "b 3 false", "a 0 true"})
}
