package wiremill;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.exception.AwsErrorDetails;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.MessageAttributeValue;
import software.amazon.awssdk.services.sqs.model.MessageSystemAttributeName;
import software.amazon.awssdk.services.sqs.model.QueueAttributeName;
import software.amazon.awssdk.services.sqs.model.QueueDoesNotExistException;
import software.amazon.awssdk.services.sqs.model.QueueNameExistsException;
import software.amazon.awssdk.services.sqs.model.ReceiptHandleIsInvalidException;
import software.amazon.awssdk.services.sqs.model.ReceiveMessageResponse;
import software.amazon.awssdk.services.sqs.model.SendMessageBatchResponse;
import software.amazon.awssdk.services.sqs.model.SendMessageResponse;
import software.amazon.awssdk.services.sqs.model.SqsException;

/** What the SDK for Java sees; it checks the digests of bodies and attributes by itself. */
@ExtendWith(ResultLines.class)
class SqsTest {
    private static final String CLIENT = "AWS SDK for Java";
    private static final SqsClient SQS = SqsClient.builder()
            .endpointOverride(URI.create(Kit.aws()))
            .region(Region.US_EAST_1)
            .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test")))
            .httpClient(UrlConnectionHttpClient.create())
            .build();

    private static final ExecutorService THREADS = Executors.newCachedThreadPool();

    @AfterAll
    static void close() {
        THREADS.shutdownNow();
        SQS.close();
    }

    private static String newQueue(String prefix, Map<QueueAttributeName, String> attributes) {
        String name = Kit.unique(prefix) + (attributes.containsKey(QueueAttributeName.FIFO_QUEUE) ? ".fifo" : "");
        return SQS.createQueue(request -> request.queueName(name).attributes(attributes)).queueUrl();
    }

    private static String attribute(String queue, QueueAttributeName name) {
        return SQS.getQueueAttributes(request -> request.queueUrl(queue).attributeNames(name)).attributes().get(name);
    }

    private static List<Message> receive(String queue, int waitSeconds, int visibilitySeconds) {
        return SQS.receiveMessage(request -> request.queueUrl(queue).maxNumberOfMessages(10)
                .waitTimeSeconds(waitSeconds).visibilityTimeout(visibilitySeconds)
                .messageAttributeNames("All").messageSystemAttributeNames(MessageSystemAttributeName.ALL)).messages();
    }

    private static List<Message> take(String queue, int count) throws Exception {
        List<Message> messages = new ArrayList<>();
        Kit.eventually(count + " messages come", () -> messages.addAll(receive(queue, 2, 60)) && messages.size() >= count);
        return messages;
    }

    private static void delete(String queue, Message message) {
        SQS.deleteMessage(request -> request.queueUrl(queue).receiptHandle(message.receiptHandle()));
    }

    private static void settled(String queue) throws Exception {
        Kit.eventually("the queue is empty", () ->
                attribute(queue, QueueAttributeName.APPROXIMATE_NUMBER_OF_MESSAGES).equals("0")
                        && attribute(queue, QueueAttributeName.APPROXIMATE_NUMBER_OF_MESSAGES_NOT_VISIBLE).equals("0"));
    }

    private static MessageAttributeValue text(String type, String value) {
        return MessageAttributeValue.builder().dataType(type).stringValue(value).build();
    }

    @Test
    @Shows(value = "a message comes back as it was sent: body, typed and binary attributes, digests that the client checks",
            client = CLIENT, protocol = "SQS", version = "awssdk.version")
    void aMessageComesBackAsItWasSent() throws Exception {
        String queue = newQueue("round", Map.of());
        Map<String, MessageAttributeValue> attributes = Map.of(
                "text", text("String", "grün <&> \"so\""),
                "number", text("Number.int", "42"),
                "bytes", MessageAttributeValue.builder().dataType("Binary")
                        .binaryValue(SdkBytes.fromByteArray(new byte[] {0, 1, -1})).build());
        String body = "päivää, 世界 𝄞\r\n\tend";
        SendMessageResponse sent = SQS.sendMessage(request -> request.queueUrl(queue).messageBody(body).messageAttributes(attributes));
        Message message = take(queue, 1).get(0);
        assertEquals(sent.messageId(), message.messageId());
        assertEquals(body, message.body());
        assertEquals(attributes, message.messageAttributes());
        assertEquals(sent.md5OfMessageAttributes(), message.md5OfMessageAttributes());
        assertEquals("1", message.attributes().get(MessageSystemAttributeName.APPROXIMATE_RECEIVE_COUNT));
        delete(queue, message);
        settled(queue);
    }

    @Test
    @Shows(value = "in a batch each entry succeeds or fails by itself", client = CLIENT, protocol = "SQS", version = "awssdk.version")
    void eachEntryOfABatch() throws Exception {
        String queue = newQueue("batch", Map.of(QueueAttributeName.MAXIMUM_MESSAGE_SIZE, "1024"));
        SendMessageBatchResponse answer = SQS.sendMessageBatch(request -> request.queueUrl(queue).entries(
                entry -> entry.id("good").messageBody("x").messageAttributes(Map.of("a", text("String", "b"))),
                entry -> entry.id("big").messageBody("x".repeat(1025)),
                entry -> entry.id("also").messageBody("ü")));
        assertEquals(List.of("good", "also"), answer.successful().stream().map(entry -> entry.id()).toList());
        assertEquals(List.of("big"), answer.failed().stream().map(entry -> entry.id()).toList());
        assertEquals("InvalidParameterValue", answer.failed().get(0).code());
        assertTrue(answer.failed().get(0).senderFault());
        for (Message message : take(queue, 2)) {
            delete(queue, message);
        }
        settled(queue);
    }

    @Test
    @Shows(value = "errors have their classes, AWS's codes and texts", client = CLIENT, protocol = "SQS", version = "awssdk.version")
    void errorsHaveTheirClasses() {
        String queue = newQueue("errors", Map.of());
        AwsErrorDetails missing = assertThrows(QueueDoesNotExistException.class,
                () -> SQS.sendMessage(request -> request.queueUrl(queue + "-missing").messageBody("x"))).awsErrorDetails();
        assertEquals("The specified queue does not exist.", missing.errorMessage());
        assertEquals("AWS.SimpleQueueService.NonExistentQueue", missing.errorCode());
        assertThrows(QueueDoesNotExistException.class, () -> SQS.getQueueUrl(request -> request.queueName(Kit.unique("missing"))));
        assertThrows(ReceiptHandleIsInvalidException.class,
                () -> SQS.deleteMessage(request -> request.queueUrl(queue).receiptHandle("garbage")));
        assertThrows(QueueNameExistsException.class, () -> SQS.createQueue(request -> request
                .queueName(queue.substring(queue.lastIndexOf('/') + 1)).attributes(Map.of(QueueAttributeName.DELAY_SECONDS, "7"))));
        SqsException many = assertThrows(SqsException.class,
                () -> SQS.receiveMessage(request -> request.queueUrl(queue).maxNumberOfMessages(11)));
        assertEquals("InvalidParameterValue", many.awsErrorDetails().errorCode());
        assertEquals("Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.",
                many.awsErrorDetails().errorMessage());
        assertEquals(400, many.statusCode());
    }

    @Test
    @Shows(value = "a long poll is woken by a message", client = CLIENT, protocol = "SQS", version = "awssdk.version")
    void aLongPollIsWoken() throws Exception {
        String queue = newQueue("wake", Map.of());
        long began = System.nanoTime();
        CompletableFuture<ReceiveMessageResponse> poll = CompletableFuture.supplyAsync(
                () -> SQS.receiveMessage(request -> request.queueUrl(queue).waitTimeSeconds(20)), THREADS);
        SQS.sendMessage(request -> request.queueUrl(queue).messageBody("wake up"));
        assertEquals("wake up", poll.get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS).messages().get(0).body());
        assertTrue(System.nanoTime() - began < TimeUnit.SECONDS.toNanos(15));
    }

    @Test
    @Shows(value = "a FIFO queue worked by three threads: every group in order, a failed message before those after it",
            client = CLIENT, protocol = "SQS", version = "awssdk.version")
    void orderByGroup() throws Exception {
        String queue = newQueue("orders", Map.of(
                QueueAttributeName.FIFO_QUEUE, "true", QueueAttributeName.CONTENT_BASED_DEDUPLICATION, "true"));
        List<String> groups = List.of("ann", "bob", "cem");
        for (int n = 0; n < 10; n++) {
            for (String group : groups) {
                String body = group + " " + n;
                SQS.sendMessage(request -> request.queueUrl(queue).messageBody(body).messageGroupId(group));
            }
        }
        List<String> done = Collections.synchronizedList(new ArrayList<>());
        AtomicBoolean stop = new AtomicBoolean();
        List<CompletableFuture<Void>> workers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            workers.add(CompletableFuture.runAsync(() -> work(queue, done, stop), THREADS));
        }
        settled(queue);
        stop.set(true);
        for (CompletableFuture<Void> worker : workers) {
            worker.get(Kit.PATIENCE.toSeconds(), TimeUnit.SECONDS);
        }
        for (String group : groups) {
            List<String> wanted = new ArrayList<>();
            for (int n = 0; n < 10; n++) {
                wanted.add(group + " " + n);
            }
            assertEquals(wanted, done.stream().filter(body -> body.startsWith(group)).distinct().toList());
        }
    }

    /** Fails at the first sight of every message that ends in 5; one message at a time keeps its group in order. */
    private static void work(String queue, List<String> done, AtomicBoolean stop) {
        while (!stop.get()) {
            List<Message> messages = SQS.receiveMessage(request -> request.queueUrl(queue).waitTimeSeconds(1).visibilityTimeout(10)
                    .messageSystemAttributeNames(MessageSystemAttributeName.APPROXIMATE_RECEIVE_COUNT)).messages();
            for (Message message : messages) {
                boolean first = message.attributes().get(MessageSystemAttributeName.APPROXIMATE_RECEIVE_COUNT).equals("1");
                if (first && message.body().endsWith("5")) {
                    SQS.changeMessageVisibility(request -> request.queueUrl(queue)
                            .receiptHandle(message.receiptHandle()).visibilityTimeout(0));
                } else {
                    done.add(message.body());
                    delete(queue, message);
                }
            }
        }
    }

    @Test
    @Shows(value = "dead letters after n attempts, and a move task that takes them back",
            client = CLIENT, protocol = "SQS", version = "awssdk.version")
    void deadLettersAndTheWayBack() throws Exception {
        String dead = newQueue("dead", Map.of());
        String arn = attribute(dead, QueueAttributeName.QUEUE_ARN);
        String queue = newQueue("work", Map.of(QueueAttributeName.REDRIVE_POLICY,
                "{\"deadLetterTargetArn\":\"" + arn + "\",\"maxReceiveCount\":1}"));
        SQS.sendMessage(request -> request.queueUrl(queue).messageBody("poison"));
        assertEquals(1, receive(queue, 5, 0).size());
        assertEquals(List.of(), receive(queue, 0, 0));
        Message letter = take(dead, 1).get(0);
        assertEquals("poison", letter.body());
        SQS.changeMessageVisibility(request -> request.queueUrl(dead).receiptHandle(letter.receiptHandle()).visibilityTimeout(0));
        SQS.startMessageMoveTask(request -> request.sourceArn(arn));
        Kit.eventually("the task is done", () -> SQS.listMessageMoveTasks(request -> request.sourceArn(arn))
                .results().get(0).status().equals("COMPLETED"));
        Message back = take(queue, 1).get(0);
        assertEquals(letter.messageId(), back.messageId());
        delete(queue, back);
        settled(queue);
    }
}
