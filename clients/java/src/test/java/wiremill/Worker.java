package wiremill;

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/**
 * A group member as applications write it: what was processed is known per partition, and committed in the
 * revoke callback before the partition is given up, or before the consumer is closed.
 */
final class Worker implements ConsumerRebalanceListener {
    private final KafkaConsumer<String, String> consumer;
    private final ConcurrentHashMap<String, AtomicInteger> tally;
    private final ConcurrentLinkedQueue<Throwable> trouble;
    private final Map<TopicPartition, OffsetAndMetadata> inHand = new HashMap<>();
    private final Thread thread;
    private volatile int owned;
    private volatile boolean stopping;

    Worker(String address, String topic, ConcurrentHashMap<String, AtomicInteger> tally,
            ConcurrentLinkedQueue<Throwable> trouble, Map<String, Object> options) {
        this.tally = tally;
        this.trouble = trouble;
        consumer = Kit.consumer(address, options);
        consumer.subscribe(List.of(topic), this);
        thread = new Thread(this::work, "worker");
        thread.setDaemon(true);
        thread.start();
    }

    int owned() {
        return owned;
    }

    private void work() {
        try (consumer) {
            // A rebalance is seen through before the consumer is closed: closed within one, it would give its partitions
            // up as lost, without the revoke callback, and while one is under way it takes no commits.
            while (!stopping || !committed()) {
                work(consumer.poll(Duration.ofMillis(50)));
            }
        } catch (Throwable error) {
            trouble.add(error);
        }
    }

    private void work(ConsumerRecords<String, String> records) {
        records.forEach(record -> {
            tally.computeIfAbsent(record.value(), value -> new AtomicInteger()).incrementAndGet();
            inHand.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        });
    }

    /** Commits everything in hand, unless a rebalance is under way. */
    private boolean committed() {
        try {
            consumer.commitSync(inHand);
            inHand.clear();
            return true;
        } catch (RebalanceInProgressException later) {
            return false;
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        owned = consumer.assignment().size();
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
        for (TopicPartition partition : partitions) {
            OffsetAndMetadata next = inHand.remove(partition);
            if (next != null) {
                done.put(partition, next);
            }
        }
        consumer.commitSync(done);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        List<TopicPartition> uncommitted = partitions.stream().filter(inHand::containsKey).toList();
        if (!uncommitted.isEmpty()) {
            trouble.add(new AssertionError("lost with records in hand: " + uncommitted));
        }
    }

    /** Sees a rebalance through, commits and leaves the group. */
    void stop() throws InterruptedException {
        stopping = true;
        thread.join(Kit.PATIENCE.toMillis());
        if (thread.isAlive()) {
            throw new AssertionError("a member did not stop");
        }
    }
}
