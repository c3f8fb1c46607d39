package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/** One member of six is slow and was set up differently: who finds out, and how soon? */
@ExtendWith(ResultLines.class)
class HistoryTest {
    @Test
    @Shows("the history of a group names the member whose handler outlives its poll interval, again and again, and the setting that differs")
    void theHistoryNamesTheSlowMember() throws Exception {
        String topic = Kit.newTopic(Kit.kafka(), "history", 6);
        String group = Kit.unique("history");
        AtomicBoolean stop = new AtomicBoolean();
        ConcurrentLinkedQueue<Throwable> trouble = new ConcurrentLinkedQueue<>();
        CountDownLatch working = new CountDownLatch(6);
        List<Thread> members = new ArrayList<>();
        for (int i = 0; i < 6; i++) {
            boolean slow = i == 5;
            Thread member = new Thread(() -> poll(topic, group, slow, working, stop, trouble));
            member.setDaemon(true);
            member.start();
            members.add(member);
        }
        Kit.eventually("all six have worked", () -> working.getCount() == 0);
        Kit.eventually("the slow member has left three times", () -> leftBySlow(group).size() >= 3);
        Kit.eventually("the slow member is back among six", () -> members(group).size() == 6);
        for (JsonNode member : members(group)) {
            List<String> differs = texts(member.get("differs_in"));
            if (member.get("client_id").asText().equals("slow")) {
                assertTrue(differs.stream().anyMatch(setting -> setting.contains("rebalance")), member.toString());
            } else {
                assertEquals(List.of(), differs, member.toString());
            }
        }
        for (JsonNode rebalance : leftBySlow(group)) {
            assertTrue(rebalance.get("reason").asText().contains("poll timeout"), rebalance.toString());
        }
        stop.set(true);
        for (Thread member : members) {
            member.join(Kit.PATIENCE.toMillis());
        }
        assertEquals(List.of(), List.copyOf(trouble));
    }

    private static void poll(String topic, String group, boolean slow, CountDownLatch working, AtomicBoolean stop,
            ConcurrentLinkedQueue<Throwable> trouble) {
        Map<String, Object> options = new HashMap<>(Map.of("group.id", group, "client.id", slow ? "slow" : "quick"));
        if (slow) {
            options.put("max.poll.interval.ms", 1_500);
        }
        try (var consumer = Kit.consumer(Kit.kafka(), options)) {
            consumer.subscribe(List.of(topic));
            boolean counted = false;
            while (!stop.get()) {
                consumer.poll(Duration.ofMillis(200));
                boolean owns = !consumer.assignment().isEmpty();
                if (owns && !counted) {
                    counted = true;
                    working.countDown();
                }
                if (slow && owns) {
                    // A handler that takes twice as long as this member said it would.
                    Thread.sleep(3_000);
                }
            }
        } catch (Throwable error) {
            trouble.add(error);
        }
    }

    private static List<JsonNode> leftBySlow(String group) throws Exception {
        JsonNode answer = Tools.wiremill(Kit.need("WIREMILL_ADMIN"), "cursor", "history", group);
        return list(answer.get("rebalances")).stream()
                .filter(rebalance -> rebalance.get("cause").asText().equals("left"))
                .filter(rebalance -> rebalance.get("client_id").asText().equals("slow"))
                .toList();
    }

    private static List<JsonNode> members(String group) throws Exception {
        return list(Tools.wiremill(Kit.need("WIREMILL_ADMIN"), "cursor", "members", group).get("members"));
    }

    private static List<JsonNode> list(JsonNode array) {
        return StreamSupport.stream(array.spliterator(), false).toList();
    }

    private static List<String> texts(JsonNode array) {
        return list(array).stream().map(JsonNode::asText).toList();
    }
}
