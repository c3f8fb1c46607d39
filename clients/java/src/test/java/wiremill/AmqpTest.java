package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BlockedListener;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.impl.recovery.AutorecoveringConnection;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** What programs written with RabbitMQ's Java client see. */
@ExtendWith(ResultLines.class)
class AmqpTest {
    private static final String CLIENT = "amqp-client";
    private static final long PATIENCE_MS = Kit.PATIENCE.toMillis();

    private static Connection dial(String uri) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(uri);
        factory.setNetworkRecoveryInterval(100);
        return factory.newConnection();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    private static List<String> numbers(int from, int to) {
        return IntStream.range(from, to).mapToObj(Integer::toString).toList();
    }

    private static void put(Channel channel, String queue, int from, int to) throws Exception {
        for (int n = from; n < to; n++) {
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("" + n));
        }
        channel.waitForConfirmsOrDie(PATIENCE_MS);
    }

    private static String declare(Channel channel, String prefix, Map<String, Object> arguments) throws Exception {
        return channel.queueDeclare(Kit.unique(prefix), true, false, false, arguments).getQueue();
    }

    private static BlockingQueue<Delivery> consume(Channel channel, String queue) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, (tag, delivery) -> deliveries.add(delivery), tag -> {});
        return deliveries;
    }

    private static Delivery next(BlockingQueue<Delivery> deliveries) throws Exception {
        Delivery delivery = deliveries.poll(PATIENCE_MS, TimeUnit.MILLISECONDS);
        assertNotNull(delivery, "no delivery came");
        return delivery;
    }

    @Test
    @Shows(value = "confirms by number, some of them for many messages; prefetch, acknowledgements and redelivery", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void confirmsAndDeliveries() throws Exception {
        try (Connection connection = dial(Kit.amqp())) {
            Channel channel = connection.createChannel();
            String queue = declare(channel, "orders", null);
            channel.confirmSelect();
            ConcurrentLinkedQueue<Long> confirmed = new ConcurrentLinkedQueue<>();
            ConcurrentLinkedQueue<Long> waiting = new ConcurrentLinkedQueue<>();
            channel.addConfirmListener((tag, multiple) -> {
                confirmed.add(tag);
                waiting.removeIf(sent -> multiple ? sent <= tag : sent == tag);
            }, (tag, multiple) -> {});
            for (int n = 0; n < 500; n++) {
                waiting.add(channel.getNextPublishSeqNo());
                channel.basicPublish("", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, bytes("" + n));
            }
            Kit.eventually("every message is confirmed", waiting::isEmpty);
            List<Long> inOrder = new ArrayList<>(confirmed);
            assertEquals(inOrder.stream().sorted().distinct().toList(), inOrder);
            channel.basicQos(100);
            BlockingQueue<Delivery> deliveries = consume(channel, queue);
            Kit.eventually("as many are out as the prefetch", () -> deliveries.size() == 100);
            Thread.sleep(200);
            assertEquals(100, deliveries.size());
            for (int n = 0; n < 50; n++) {
                Delivery delivery = next(deliveries);
                assertEquals("" + n, text(delivery.getBody()));
                assertEquals(2, delivery.getProperties().getDeliveryMode());
                if (n == 49) {
                    channel.basicAck(delivery.getEnvelope().getDeliveryTag(), true);
                }
            }
            channel.close();
            try (Channel second = connection.createChannel()) {
                BlockingQueue<Delivery> again = consume(second, queue);
                for (int n = 50; n < 500; n++) {
                    Delivery delivery = next(again);
                    assertEquals("" + n, text(delivery.getBody()));
                    if (n < 100 || n >= 150) {
                        assertEquals(n < 100, delivery.getEnvelope().isRedeliver(), "message " + n);
                    }
                    second.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                }
                second.queueDelete(queue);
            }
        }
    }

    @Test
    @Shows(value = "a message that goes nowhere is returned and then confirmed; a full queue refuses", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void returnsAndRefusals() throws Exception {
        try (Connection connection = dial(Kit.amqp()); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            List<String> told = new ArrayList<>();
            channel.addReturnListener(returned -> told.add(returned.getReplyCode() + " " + returned.getReplyText() + " " + text(returned.getBody())));
            channel.addConfirmListener((tag, multiple) -> told.add("ack " + tag), (tag, multiple) -> told.add("nack " + tag));
            channel.basicPublish("", Kit.unique("nobody"), true, MessageProperties.PERSISTENT_BASIC, bytes("x"));
            channel.waitForConfirmsOrDie(PATIENCE_MS);
            assertEquals(List.of("312 NO_ROUTE x", "ack 1"), told);
            String queue = declare(channel, "full", Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
            put(channel, queue, 0, 1);
            channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes("y"));
            assertFalse(channel.waitForConfirms(PATIENCE_MS));
            assertEquals("nack 3", told.get(told.size() - 1));
            channel.queueDelete(queue);
        }
    }

    @Test
    @Shows(value = "a transaction is there with its commit or not at all", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void transactions() throws Exception {
        try (Connection connection = dial(Kit.amqp()); Channel channel = connection.createChannel()) {
            String queue = declare(channel, "tx", null);
            channel.txSelect();
            for (int round = 0; round < 2; round++) {
                for (String body : numbers(0, 3)) {
                    channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes(body));
                }
                assertEquals(0, channel.messageCount(queue));
                if (round == 0) {
                    channel.txRollback();
                } else {
                    channel.txCommit();
                }
                assertEquals(round * 3, channel.messageCount(queue));
            }
            GetResponse got = channel.basicGet(queue, false);
            assertEquals(2, got.getMessageCount());
            channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
            channel.txRollback();
            channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
            channel.txCommit();
            channel.queuePurge(queue);
            assertNull(channel.basicGet(queue, true));
            channel.queueDelete(queue);
        }
    }

    @Test
    @Shows(value = "errors close the channel with the original's code and text, and the connection goes on", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void errors() throws Exception {
        try (Connection connection = dial(Kit.amqp())) {
            String queue = declare(connection.createChannel(), "errors", Map.of("x-max-priority", 3));
            IOException missing = assertThrows(IOException.class, () -> connection.createChannel().queueDeclarePassive("nobody's"));
            assertClosed(missing, 404, "NOT_FOUND - no queue 'nobody's' in vhost '/'");
            IOException other = assertThrows(IOException.class, () -> connection.createChannel().queueDeclare(queue, true, false, false, Map.of("x-max-priority", 4)));
            assertClosed(other, 406, "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue '" + queue
                    + "' in vhost '/': received '4' but current is '3'");
            Channel unknown = connection.createChannel();
            BlockingQueue<ShutdownSignalException> closed = new LinkedBlockingQueue<>();
            unknown.addShutdownListener(closed::add);
            unknown.basicPublish(Kit.unique("nowhere"), "", null, bytes("x"));
            assertEquals(404, ((AMQP.Channel.Close) closed.poll(PATIENCE_MS, TimeUnit.MILLISECONDS).getReason()).getReplyCode());
            assertTrue(connection.isOpen());
            connection.createChannel().queueDelete(queue);
        }
    }

    private static void assertClosed(IOException error, int code, String text) {
        AMQP.Channel.Close close = (AMQP.Channel.Close) ((ShutdownSignalException) error.getCause()).getReason();
        assertEquals(code + " " + text, close.getReplyCode() + " " + close.getReplyText());
    }

    @Test
    @Shows(value = "a request and its answer over direct reply-to", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void directReplyTo() throws Exception {
        try (Connection connection = dial(Kit.amqp())) {
            Channel server = connection.createChannel();
            String queue = declare(server, "rpc", null);
            server.basicConsume(queue, true, (tag, request) -> {
                AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().correlationId(request.getProperties().getCorrelationId()).build();
                server.basicPublish("", request.getProperties().getReplyTo(), properties, bytes("re " + text(request.getBody())));
            }, tag -> {});
            RpcClientParams params = new RpcClientParams().channel(connection.createChannel()).exchange("").routingKey(queue).timeout((int) PATIENCE_MS);
            assertEquals("amq.rabbitmq.reply-to", params.getReplyTo());
            RpcClient client = new RpcClient(params);
            for (String body : numbers(0, 100)) {
                assertEquals("re " + body, client.stringCall(body));
            }
            client.close();
            server.queueDelete(queue);
        }
    }

    @Test
    @Shows(value = "a publisher is told that it is blocked while the disk is short; consumers go on", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void blocked(@TempDir Path folder) throws Exception {
        String queue;
        try (Broker broker = new Broker(folder); Connection connection = dial(broker.amqp()); Channel channel = connection.createChannel()) {
            queue = declare(channel, "short", null);
            channel.confirmSelect();
            put(channel, queue, 0, 10);
        }
        try (Broker broker = new Broker(folder, "--free-space-min-len", "1099511627776")) {
            Connection connection = dial(broker.amqp());
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            connection.addBlockedListener(new BlockedListener() {
                @Override
                public void handleBlocked(String reason) {
                    told.add(reason);
                }

                @Override
                public void handleUnblocked() {
                    told.add("unblocked");
                }
            });
            Channel publisher = connection.createChannel();
            publisher.confirmSelect();
            publisher.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes("x"));
            assertEquals("low on disk", told.poll(PATIENCE_MS, TimeUnit.MILLISECONDS));
            try (Connection other = dial(broker.amqp()); Channel worker = other.createChannel()) {
                BlockingQueue<Delivery> deliveries = consume(worker, queue);
                for (String body : numbers(0, 10)) {
                    Delivery delivery = next(deliveries);
                    assertEquals(body, text(delivery.getBody()));
                    worker.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
                }
            }
            assertNull(told.poll(), "nothing was stored meanwhile");
            // What it says is not read while it is blocked.
            connection.abort(1_000);
        }
    }

    /** The client's own recovery: exchanges, queues (also those with names of the server's), bindings and consumers. */
    @Test
    @Shows(value = "a broker killed and started again: automatic recovery brings topology and consumers back, and nothing confirmed is lost", client = CLIENT, protocol = "AMQP", version = "amqp-client.version")
    void recovery(@TempDir Path folder) throws Exception {
        try (Broker broker = new Broker(folder); Connection connection = dial(broker.amqp())) {
            Channel channel = connection.createChannel();
            String exchange = Kit.unique("events");
            channel.exchangeDeclare(exchange, BuiltinExchangeType.TOPIC, false, true, null);
            String passing = channel.queueDeclare().getQueue();
            channel.queueBind(passing, exchange, "order.#");
            String durable = declare(channel, "durable", Map.of("x-queue-type", "quorum"));
            BlockingQueue<Delivery> passed = consume(channel, passing);
            Channel worker = connection.createChannel();
            worker.basicQos(5);
            BlockingQueue<Delivery> work = consume(worker, durable);
            channel.confirmSelect();
            put(channel, durable, 0, 20);
            Semaphore recovered = new Semaphore(0);
            ((AutorecoveringConnection) connection).addRecoveryListener(new com.rabbitmq.client.RecoveryListener() {
                @Override
                public void handleRecovery(com.rabbitmq.client.Recoverable recoverable) {
                    recovered.release();
                }

                @Override
                public void handleRecoveryStarted(com.rabbitmq.client.Recoverable recoverable) {}
            });
            Kit.eventually("the prefetch is out", () -> work.size() == 5);
            work.clear();
            // Its answer follows the sync that has what is out as well.
            declare(channel, "later", null);
            broker.kill();
            broker.start();
            assertTrue(recovered.tryAcquire(PATIENCE_MS, TimeUnit.MILLISECONDS), "not recovered");
            channel.basicPublish(exchange, "order.created", null, bytes("after"));
            assertEquals("after", text(next(passed).getBody()));
            for (int n = 0; n < 20; n++) {
                Delivery delivery = next(work);
                assertEquals("" + n, text(delivery.getBody()));
                assertEquals(n < 5, delivery.getEnvelope().isRedeliver(), "message " + n);
                worker.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }
        }
    }
}
