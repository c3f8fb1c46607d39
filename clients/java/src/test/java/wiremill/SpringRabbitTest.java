package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.springframework.amqp.core.AmqpAdmin;
import org.springframework.amqp.core.Binding;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.DirectExchange;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.annotation.EnableRabbit;
import org.springframework.amqp.rabbit.annotation.RabbitListener;
import org.springframework.amqp.rabbit.config.RetryInterceptorBuilder;
import org.springframework.amqp.rabbit.config.SimpleRabbitListenerContainerFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.ConnectionFactory;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.retry.RejectAndDontRequeueRecoverer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/** An order service as people write it with Spring: only the address differs. */
@ExtendWith(ResultLines.class)
class SpringRabbitTest {
    private static final String CLIENT = "spring-rabbit";
    private static final int ATTEMPTS = 3;

    @Configuration
    @EnableRabbit
    static class Orders {
        final String name = Kit.unique("spring");
        final Queue<String> attempts = new ConcurrentLinkedQueue<>();
        final Queue<String> done = new ConcurrentLinkedQueue<>();

        @Bean
        CachingConnectionFactory connectionFactory() {
            CachingConnectionFactory factory = new CachingConnectionFactory(URI.create(Kit.amqp()));
            factory.setPublisherConfirmType(CachingConnectionFactory.ConfirmType.CORRELATED);
            factory.setPublisherReturns(true);
            return factory;
        }

        @Bean
        RabbitAdmin admin(ConnectionFactory connections) {
            return new RabbitAdmin(connections);
        }

        @Bean
        RabbitTemplate template(ConnectionFactory connections) {
            RabbitTemplate template = new RabbitTemplate(connections);
            template.setMandatory(true);
            return template;
        }

        @Bean
        TopicExchange events() {
            return new TopicExchange(name);
        }

        @Bean
        DirectExchange deadLetterExchange() {
            return new DirectExchange(name + ".dlx");
        }

        @Bean
        org.springframework.amqp.core.Queue orders() {
            return QueueBuilder.durable(name + ".orders").deadLetterExchange(name + ".dlx").deadLetterRoutingKey("dead").build();
        }

        @Bean
        org.springframework.amqp.core.Queue deadOrders() {
            return QueueBuilder.durable(name + ".orders.dlq").build();
        }

        @Bean
        Binding toOrders() {
            return BindingBuilder.bind(orders()).to(events()).with("order.*");
        }

        @Bean
        Binding toDeadOrders() {
            return BindingBuilder.bind(deadOrders()).to(deadLetterExchange()).with("dead");
        }

        @Bean
        SimpleRabbitListenerContainerFactory rabbitListenerContainerFactory(ConnectionFactory connections) {
            SimpleRabbitListenerContainerFactory factory = new SimpleRabbitListenerContainerFactory();
            factory.setConnectionFactory(connections);
            factory.setConcurrentConsumers(2);
            factory.setPrefetchCount(10);
            factory.setAdviceChain(RetryInterceptorBuilder.stateless()
                    .maxRetries(ATTEMPTS - 1)
                    .backOffOptions(20, 2.0, 100)
                    .recoverer(new RejectAndDontRequeueRecoverer())
                    .build());
            return factory;
        }

        @RabbitListener(queues = "#{orders.name}")
        void work(String order) {
            attempts.add(order);
            if (order.endsWith("poison")) {
                throw new IllegalStateException("cannot be worked");
            }
            if (order.endsWith("7") && attempts.stream().filter(order::equals).count() < 2) {
                throw new IllegalStateException("not this time");
            }
            done.add(order);
        }
    }

    @Test
    @Shows(value = "a template with confirms and returns, a listener with a retry interceptor and a dead-letter queue", client = CLIENT, protocol = "AMQP", version = "spring-rabbit.version")
    void orderService() throws Exception {
        try (AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext(Orders.class)) {
            Orders orders = context.getBean(Orders.class);
            RabbitTemplate template = context.getBean(RabbitTemplate.class);
            List<CorrelationData> sent = IntStream.range(0, 100)
                    .mapToObj(n -> send(template, orders.name, "order.created", n == 50 ? "poison" : "order " + n))
                    .toList();
            for (CorrelationData one : sent) {
                assertTrue(one.getFuture().get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS).ack());
                assertEquals(null, one.getReturned());
            }
            CorrelationData astray = send(template, orders.name, "payment", "nobody's");
            assertTrue(astray.getFuture().get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS).ack());
            assertEquals(List.of(312, "NO_ROUTE"), List.of(astray.getReturned().getReplyCode(), astray.getReturned().getReplyText()));
            CorrelationData refused = send(template, Kit.unique("no-exchange"), "x", "x");
            assertFalse(refused.getFuture().get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS).ack());
            Kit.eventually("every order but one is done", () -> orders.done.size() == 99);
            Message dead = template.receive(orders.name + ".orders.dlq", Kit.PATIENCE.toMillis());
            assertEquals("poison", new String(dead.getBody()));
            Map<String, ?> death = dead.getMessageProperties().getXDeathHeader().get(0);
            assertEquals(List.of("rejected", 1L, orders.name + ".orders"), List.of(death.get("reason"), death.get("count"), death.get("queue")));
            assertEquals(ATTEMPTS, orders.attempts.stream().filter("poison"::equals).count());
            assertEquals(2, orders.attempts.stream().filter("order 7"::equals).count());
            assertEquals(99, orders.done.stream().distinct().count());
            AmqpAdmin admin = context.getBean(AmqpAdmin.class);
            assertEquals(0, admin.getQueueInfo(orders.name + ".orders").getMessageCount());
            for (String queue : List.of(".orders", ".orders.dlq")) {
                admin.deleteQueue(orders.name + queue);
            }
            admin.deleteExchange(orders.name);
            admin.deleteExchange(orders.name + ".dlx");
        }
    }

    private static CorrelationData send(RabbitTemplate template, String exchange, String key, String body) {
        CorrelationData correlation = new CorrelationData();
        template.convertAndSend(exchange, key, body, correlation);
        return correlation;
    }

    @Test
    @Shows(value = "a template's request and its answer, and a publish in a transaction", client = CLIENT, protocol = "AMQP", version = "spring-rabbit.version")
    void requestAndTransaction() throws Exception {
        CachingConnectionFactory connections = new CachingConnectionFactory(URI.create(Kit.amqp()));
        try {
            RabbitAdmin admin = new RabbitAdmin(connections);
            String queue = Kit.unique("spring-rpc");
            admin.declareQueue(QueueBuilder.durable(queue).build());
            RabbitTemplate server = new RabbitTemplate(connections);
            Thread answering = new Thread(() -> {
                server.setReceiveTimeout(Kit.PATIENCE.toMillis());
                for (int n = 0; n < 10; n++) {
                    server.<String, String>receiveAndReply(queue, request -> "re " + request);
                }
            });
            answering.start();
            RabbitTemplate client = new RabbitTemplate(connections);
            client.setReplyTimeout(Kit.PATIENCE.toMillis());
            for (int n = 0; n < 10; n++) {
                assertEquals("re " + n, client.convertSendAndReceive("", queue, "" + n));
            }
            answering.join(Kit.PATIENCE.toMillis());
            RabbitTemplate transacted = new RabbitTemplate(connections);
            transacted.setChannelTransacted(true);
            transacted.convertAndSend("", queue, "committed");
            assertEquals("committed", client.receiveAndConvert(queue, Kit.PATIENCE.toMillis()));
            admin.deleteQueue(queue);
        } finally {
            connections.destroy();
        }
    }
}
