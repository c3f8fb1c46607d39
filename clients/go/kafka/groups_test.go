package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wiremill/clients/kit"
)

// tally counts how often each record was processed, whoever processed it.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

func (s *tally) add(record *kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[string(record.Value)]++
}

func (s *tally) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// worker is a group member as applications write it: one goroutine per partition, what is in flight
// known per partition, and committed in the revoke callback before the partition is given up.
type worker struct {
	t       *testing.T
	client  *kgo.Client
	tally   *tally
	polling context.Context
	quit    context.CancelFunc
	stopped chan struct{}
	mu      sync.Mutex
	inHand  map[int32]*inHand
}

// inHand is one owned partition: records on their way to its goroutine, and the offset after the last
// one that was processed.
type inHand struct {
	records chan []*kgo.Record
	done    chan struct{}
	// queued counts what was given to the goroutine and is not processed yet; next is not committed yet.
	queued sync.WaitGroup
	next   atomic.Pointer[kgo.EpochOffset]
}

func startWorker(t *testing.T, address, group, topic string, tally *tally, opts ...kgo.Opt) *worker {
	w := &worker{t: t, tally: tally, stopped: make(chan struct{}), inHand: map[int32]*inHand{}}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.HeartbeatInterval(100 * time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(w.assigned), kgo.OnPartitionsRevoked(w.revoked), kgo.OnPartitionsLost(w.lost),
	}, opts...)...)
	kit.Check(t, err, "make a member")
	w.client = client
	w.polling, w.quit = context.WithCancel(context.Background())
	t.Cleanup(w.quit)
	go w.poll()
	return w
}

func (w *worker) poll() {
	defer close(w.stopped)
	for {
		fetches := w.client.PollRecords(w.polling, 50)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				hand := w.partition(p.Partition)
				hand.queued.Add(1)
				hand.records <- p.Records
			}
		})
		// From the last poll on nothing is given up before it is committed: the partitions stay until the member is closed.
		if w.polling.Err() != nil {
			return
		}
		w.client.AllowRebalance()
	}
}

func (w *worker) partition(id int32) *inHand {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inHand[id]
}

func (w *worker) owns() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.inHand) > 0
}

func (w *worker) assigned(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ids := range partitions {
		for _, id := range ids {
			p := &inHand{records: make(chan []*kgo.Record, 4), done: make(chan struct{})}
			w.inHand[id] = p
			go w.process(p)
		}
	}
}

func (w *worker) process(p *inHand) {
	defer close(p.done)
	for records := range p.records {
		for _, record := range records {
			w.tally.add(record)
			p.next.Store(&kgo.EpochOffset{Epoch: record.LeaderEpoch, Offset: record.Offset + 1})
		}
		p.queued.Done()
	}
}

// take finishes what is in hand of partitions that go, and returns what is to be committed of them.
func (w *worker) take(partitions map[string][]int32) map[string]map[int32]kgo.EpochOffset {
	commit := map[string]map[int32]kgo.EpochOffset{}
	for topic, ids := range partitions {
		for _, id := range ids {
			w.mu.Lock()
			p := w.inHand[id]
			delete(w.inHand, id)
			w.mu.Unlock()
			close(p.records)
			<-p.done
			if next := p.next.Load(); next != nil {
				if commit[topic] == nil {
					commit[topic] = map[int32]kgo.EpochOffset{}
				}
				commit[topic][id] = *next
			}
		}
	}
	return commit
}

func (w *worker) revoked(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
	commit := w.take(partitions)
	if len(commit) == 0 {
		return
	}
	var failed error
	client.CommitOffsetsSync(ctx, commit, commitOutcome(&failed))
	if failed != nil {
		w.t.Errorf("commit while giving up %v: %v", partitions, failed)
	}
}

// commitOutcome stores the first error of a commit, of the request or of any partition in it.
func commitOutcome(failed *error) func(*kgo.Client, *kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse, error) {
	return func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		*failed = err
		if err != nil {
			return
		}
		for _, topic := range response.Topics {
			for _, partition := range topic.Partitions {
				if code := kerr.ErrorForCode(partition.ErrorCode); code != nil {
					*failed = fmt.Errorf("partition %d: %w", partition.Partition, code)
				}
			}
		}
	}
}

func (w *worker) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	if commit := w.take(partitions); len(commit) > 0 {
		w.t.Errorf("partitions were lost with records in hand: %v", commit)
	}
}

// stop stops polling, commits what is in hand and leaves the group. A member that is closed within a rebalance gives
// its partitions up without another commit, so nothing may be in hand any more by then.
func (w *worker) stop(topic string) {
	w.quit()
	<-w.stopped
	kit.Eventually(w.t, "a member commits what it has in hand", func() bool { return w.commitInHand(topic) })
	w.client.CloseAllowingRebalance()
}

// commitInHand is false when there is something that could not be committed now.
func (w *worker) commitInHand(topic string) bool {
	w.mu.Lock()
	owned := map[int32]*inHand{}
	maps.Copy(owned, w.inHand)
	w.mu.Unlock()
	next := map[int32]*kgo.EpochOffset{}
	commit := map[string]map[int32]kgo.EpochOffset{topic: {}}
	for id, p := range owned {
		p.queued.Wait()
		if next[id] = p.next.Load(); next[id] != nil {
			commit[topic][id] = *next[id]
		}
	}
	if len(commit[topic]) == 0 {
		return true
	}
	var failed error
	w.client.CommitOffsetsSync(context.Background(), commit, commitOutcome(&failed))
	if failed != nil {
		return false
	}
	for id, p := range owned {
		p.next.CompareAndSwap(next[id], nil)
	}
	return true
}

func TestFranzSixEagerMembersRestartedLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "classic group, eager: six members restarted five times over, nothing lost, nothing processed twice")
	restartRounds(t, kgo.Balancers(kgo.RangeBalancer()))
}

func TestFranzSixCooperativeMembersRestartedLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "classic group, cooperative: six members restarted five times over, nothing lost, nothing processed twice")
	restartRounds(t, kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

func restartRounds(t *testing.T, balancer kgo.Opt) {
	address := kit.Kafka(t)
	topic, group := newTopic(t, address, "restarts", 12), kit.Name("restarts")
	tally := &tally{seen: map[string]int{}}
	stopProducing := make(chan struct{})
	produced := make(chan int)
	go func() { produced <- produceUntil(t, address, topic, stopProducing) }()
	members := make([]*worker, 6)
	for i := range members {
		members[i] = startWorker(t, address, group, topic, tally, balancer)
	}
	for _, member := range members {
		kit.Eventually(t, "every member has a share", member.owns)
	}
	for range 5 {
		for i := range members {
			members[i].stop(topic)
			members[i] = startWorker(t, address, group, topic, tally, balancer)
			kit.Eventually(t, "the new member has a share", members[i].owns)
		}
	}
	close(stopProducing)
	total := <-produced
	kit.Eventually(t, "everything is processed", func() bool { return tally.len() == total })
	for _, member := range members {
		member.stop(topic)
	}
	for value, times := range tally.seen {
		if times != 1 {
			t.Errorf("%s was processed %d times", value, times)
		}
	}
	lag, err := kadm.NewClient(franz(t, address)).Lag(kit.Context(t), group)
	kit.Check(t, err, "lag")
	if left := lag[group].Lag.Total(); left != 0 {
		t.Errorf("%d records were processed and not committed", left)
	}
}

func produceUntil(t *testing.T, address, topic string, stop <-chan struct{}) int {
	producer := franz(t, address)
	for n := 0; ; n++ {
		select {
		case <-stop:
			kit.Check(t, producer.Flush(context.Background()), "flush")
			return n
		case <-time.After(time.Millisecond):
		}
		record := &kgo.Record{Topic: topic, Key: fmt.Append(nil, n%100), Value: fmt.Append(nil, n)}
		producer.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
}

// generations of all members, sorted; equal lists mean that no rebalance happened in between.
func generations(members []*kgo.Client) []string {
	var all []string
	for _, member := range members {
		id, generation := member.GroupMetadata()
		all = append(all, fmt.Sprintf("%s in %d", id, generation))
	}
	slices.Sort(all)
	return all
}

func quietMember(t *testing.T, address, group, topic, instance string, opts ...kgo.Opt) *kgo.Client {
	all := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.SessionTimeout(20 * time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RetryTimeout(30 * time.Second),
	}
	if instance != "" {
		all = append(all, kgo.InstanceID(instance))
	}
	client := franz(t, address, append(all, opts...)...)
	go func() {
		for !client.PollFetches(context.Background()).IsClientClosed() {
		}
	}()
	return client
}

// settled waits until the group is stable with n members that own all partitions between them.
func settled(t *testing.T, address, group string, n, partitions int) kadm.DescribedGroup {
	t.Helper()
	admin := kadm.NewClient(franz(t, address))
	var described kadm.DescribedGroup
	kit.Eventually(t, fmt.Sprintf("%s has %d members", group, n), func() bool {
		groups, err := admin.DescribeGroups(t.Context(), group)
		if err != nil {
			return false
		}
		described = groups[group]
		owned := 0
		for _, ids := range described.AssignedPartitions() {
			owned += len(ids)
		}
		return described.State == "Stable" && len(described.Members) == n && owned == partitions
	})
	return described
}

func TestFranzAStaticMemberThatComesBackInTimeCausesNoRebalance(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "static membership: a member that comes back within its session causes no rebalance")
	address := kit.Kafka(t)
	topic, group := newTopic(t, address, "static", 6), kit.Name("static")
	// A cooperative member tells what it owns when it joins; one that comes back owns nothing, and the
	// change alone asks for a rebalance. An eager one comes back with the words it left with.
	eager := kgo.Balancers(kgo.RangeBalancer())
	members := []*kgo.Client{}
	for i := range 3 {
		members = append(members, quietMember(t, address, group, topic, fmt.Sprintf("pod-%d", i), eager))
	}
	before := settled(t, address, group, 3, 6)
	kit.Eventually(t, "all heard of the last generation", func() bool { return sameGeneration(members) })
	others := generations(members[:2])
	members[2].Close()
	time.Sleep(time.Second)
	back := quietMember(t, address, group, topic, "pod-2", eager)
	kit.Eventually(t, "it owns partitions again", func() bool {
		_, generation := back.GroupMetadata()
		return generation > 0
	})
	time.Sleep(time.Second)
	after := settled(t, address, group, 3, 6)
	if got := generations(members[:2]); !slices.Equal(got, others) {
		t.Errorf("the others were %v and are %v", others, got)
	}
	for instance, partitions := range assignments(before) {
		if got := assignments(after)[instance]; !slices.Equal(got, partitions) {
			t.Errorf("%s had %v and has %v", instance, partitions, got)
		}
	}
}

func sameGeneration(members []*kgo.Client) bool {
	_, first := members[0].GroupMetadata()
	for _, member := range members {
		if _, generation := member.GroupMetadata(); generation != first || first <= 0 {
			return false
		}
	}
	return true
}

// assignments per instance id, or per member id where there is none.
func assignments(group kadm.DescribedGroup) map[string][]int32 {
	all := map[string][]int32{}
	for _, member := range group.Members {
		name := member.MemberID
		if member.InstanceID != nil {
			name = *member.InstanceID
		}
		if assigned, ok := member.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				all[name] = append(all[name], topic.Partitions...)
			}
		}
		slices.Sort(all[name])
	}
	return all
}

// dialWhenUp waits while nobody listens: this client gives up its place itself when connections are refused for a second,
// and a start may take longer.
func dialWhenUp(ctx context.Context, network, address string) (net.Conn, error) {
	for {
		connection, err := new(net.Dialer).DialContext(ctx, network, address)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return connection, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestFranzABrokerThatComesBackInTimeCausesNoRebalance(t *testing.T) {
	t.Parallel()
	kit.Shows(t, kit.Franz, "a broker killed and restarted within the session causes no rebalance: members, generation and assignment stay")
	broker := kit.StartBroker(t)
	topic, group := newTopic(t, broker.Kafka, "restart", 6), kit.Name("restart")
	patient := []kgo.Opt{kgo.Balancers(kgo.RangeBalancer()), kgo.Dialer(dialWhenUp)}
	members := []*kgo.Client{}
	for range 3 {
		members = append(members, quietMember(t, broker.Kafka, group, topic, "", patient...))
	}
	before := settled(t, broker.Kafka, group, 3, 6)
	kit.Eventually(t, "all heard of the last generation", func() bool { return sameGeneration(members) })
	wanted := generations(members)
	broker.Kill()
	broker.Start()
	time.Sleep(5 * time.Second)
	after := settled(t, broker.Kafka, group, 3, 6)
	if got := generations(members); !slices.Equal(got, wanted) {
		t.Errorf("members were %v and are %v", wanted, got)
	}
	for id, partitions := range assignments(before) {
		if got := assignments(after)[id]; !slices.Equal(got, partitions) {
			t.Errorf("%s had %v and has %v", id, partitions, got)
		}
	}
}
