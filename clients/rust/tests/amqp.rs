//! What lapin sees of AMQP.

use clients::{Broker, PATIENCE, amqp, name, shows};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Error, ErrorKind,
    ExchangeKind,
    message::Delivery,
    options::*,
    types::{AMQPValue, FieldArray, FieldTable},
};
use tokio::time::timeout;

const CLIENT: &str = "lapin";
const QUIET: std::time::Duration = std::time::Duration::from_millis(500);

async fn connect() -> Connection {
    Connection::connect(&amqp(), ConnectionProperties::default()).await.unwrap()
}

/// A channel whose publishes are confirmed.
async fn confirming(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) {
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// How many messages a queue has ready.
async fn ready(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions::default().passive();
    let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
    queue.message_count().into()
}

async fn delete(channel: &Channel, queue: &str) {
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
}

fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

async fn put(channel: &Channel, exchange: &str, key: &str, body: &str) -> Confirmation {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel
        .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), persistent())
        .await
        .unwrap();
    timeout(PATIENCE, confirm).await.expect("a confirm in time").unwrap()
}

/// Publishes the numbers of a range, and waits once for all their confirms.
async fn fill(channel: &Channel, queue: &str, numbers: std::ops::Range<u32>) {
    let mut confirms = Vec::new();
    for n in numbers {
        let body = n.to_string();
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), persistent());
        confirms.push(publish.await.unwrap());
    }
    for confirm in confirms {
        assert_eq!(timeout(PATIENCE, confirm).await.unwrap().unwrap(), Confirmation::Ack(None));
    }
}

async fn consume(channel: &Channel, queue: &str, tag: &str) -> Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    timeout(PATIENCE, consumer.next()).await.expect("a delivery in time").unwrap().unwrap()
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).unwrap()
}

fn number(delivery: &Delivery) -> u32 {
    body(delivery).parse().unwrap()
}

async fn is_quiet(consumer: &mut Consumer) -> bool {
    timeout(QUIET, consumer.next()).await.is_err()
}

/// Code and text of the broker's answer.
fn refusal(error: &Error) -> (u16, String) {
    let ErrorKind::ProtocolError(answer) = error.kind() else { panic!("{error}") };
    (answer.get_id(), answer.get_message().to_string())
}

#[tokio::test]
async fn messages_come_in_order_with_their_properties_and_headers() {
    let _shows =
        shows("AMQP", CLIENT, "messages of a queue come in order, with their properties and headers");
    let (connection, queue) = (connect().await, name("orders"));
    let channel = confirming(&connection).await;
    declare(&channel, &queue, FieldTable::default()).await;
    let mut list = FieldArray::default();
    list.push(AMQPValue::LongInt(1));
    list.push(text("two"));
    let headers = table([
        ("text", text("x")),
        ("list", AMQPValue::FieldArray(list)),
        ("table", AMQPValue::FieldTable(table([("inner", AMQPValue::Boolean(true))]))),
        ("long", AMQPValue::LongLongInt(1 << 40)),
    ]);
    let properties =
        persistent().with_headers(headers).with_message_id("m".into()).with_timestamp(1_700_000_000);
    for n in 0..200 {
        let body = format!("{n}");
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            options,
            body.as_bytes(),
            properties.clone(),
        );
        drop(publish.await.unwrap());
    }
    assert!(channel.wait_for_confirms().await.unwrap().is_empty());
    let mut consumer = consume(&channel, &queue, "").await;
    for n in 0..200 {
        let delivery = next(&mut consumer).await;
        assert_eq!((number(&delivery), delivery.redelivered), (n, false));
        assert_eq!(delivery.properties, properties);
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
    assert_eq!(ready(&channel, &queue).await, 0);
    delete(&channel, &queue).await;
}

#[tokio::test]
async fn what_goes_nowhere_is_returned_and_what_is_too_much_refused() {
    let _shows = shows("AMQP", CLIENT, "a message that goes nowhere is returned with its confirm");
    let _also = shows("AMQP", CLIENT, "a publish that a full queue rejects is told to its publisher");
    let connection = connect().await;
    let channel = confirming(&connection).await;
    let Confirmation::Ack(Some(returned)) = put(&channel, "", &name("nobody"), "x").await else {
        panic!("not returned");
    };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((body(&returned), returned.properties.delivery_mode()), ("x".to_owned(), &Some(2)));
    let queue = name("full");
    let limit = [("x-max-length", AMQPValue::LongInt(2)), ("x-overflow", text("reject-publish"))];
    declare(&channel, &queue, table(limit)).await;
    for n in 0..4 {
        assert_eq!(put(&channel, "", &queue, "y").await.is_ack(), n < 2, "publish {n}");
    }
    assert_eq!(ready(&channel, &queue).await, 2);
    delete(&channel, &queue).await;
}

#[tokio::test]
async fn prefetch_bounds_what_is_out_and_one_acknowledgement_covers_many() {
    let _shows = shows("AMQP", CLIENT, "prefetch bounds what is out; one acknowledgement covers many");
    let (connection, queue) = (connect().await, name("prefetch"));
    let channel = confirming(&connection).await;
    declare(&channel, &queue, FieldTable::default()).await;
    fill(&channel, &queue, 0..25).await;
    channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
    let mut consumer = consume(&channel, &queue, "").await;
    for round in 0..2 {
        let mut last = None;
        for n in 0..10 {
            let delivery = next(&mut consumer).await;
            assert_eq!(number(&delivery), round * 10 + n);
            last = Some(delivery);
        }
        assert!(is_quiet(&mut consumer).await, "more is out than the prefetch");
        last.unwrap().ack(BasicAckOptions { multiple: true }).await.unwrap();
    }
    assert_eq!(number(&next(&mut consumer).await), 20);
    delete(&channel, &queue).await;
}

#[tokio::test]
async fn what_is_given_back_comes_again_and_what_is_rejected_is_a_dead_letter() {
    let _shows = shows("AMQP", CLIENT, "what is given back comes again at its place, and says so");
    let _also = shows("AMQP", CLIENT, "rejected messages become dead letters that say why");
    let connection = connect().await;
    let (queue, dead) = (name("work"), name("dead"));
    let channel = confirming(&connection).await;
    declare(&channel, &dead, FieldTable::default()).await;
    let letters = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&dead))];
    declare(&channel, &queue, table(letters)).await;
    fill(&channel, &queue, 0..3).await;
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let mut consumer = consume(&channel, &queue, "").await;
    let first = next(&mut consumer).await;
    first.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((number(&again), again.redelivered), (0, true));
    again.nack(BasicNackOptions { requeue: false, ..BasicNackOptions::default() }).await.unwrap();
    let second = next(&mut consumer).await;
    assert_eq!((number(&second), second.redelivered), (1, false));
    second.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    let third = next(&mut consumer).await;
    third.ack(BasicAckOptions::default()).await.unwrap();
    let mut letters = consume(&channel, &dead, "letters").await;
    for n in 0..2 {
        let letter = next(&mut letters).await;
        assert_eq!(number(&letter), n);
        let headers = letter.properties.headers().as_ref().unwrap();
        let header = |name: &str| headers.inner().get(name).cloned();
        assert_eq!(header("x-first-death-reason"), Some(text("rejected")));
        assert_eq!(header("x-first-death-queue"), Some(text(&queue)));
        let Some(AMQPValue::FieldArray(deaths)) = header("x-death") else { panic!("{headers:?}") };
        let [AMQPValue::FieldTable(death)] = deaths.as_slice() else { panic!("{deaths:?}") };
        assert_eq!(death.inner().get("count"), Some(&AMQPValue::LongLongInt(1)));
        letter.ack(BasicAckOptions::default()).await.unwrap();
    }
    for name in [&queue, &dead] {
        delete(&channel, name).await;
    }
}

#[tokio::test]
async fn errors_have_the_originals_codes_and_texts() {
    let _shows = shows(
        "AMQP",
        CLIENT,
        "errors close the channel with the original's code and text, and the connection goes on",
    );
    let (connection, queue) = (connect().await, name("errors"));
    let channel = connection.create_channel().await.unwrap();
    declare(&channel, &queue, FieldTable::default()).await;
    let passive = QueueDeclareOptions::default().passive();
    let missing = channel.queue_declare("nobody's".into(), passive, FieldTable::default()).await;
    let text = "NOT_FOUND - no queue 'nobody's' in vhost '/'".to_owned();
    assert_eq!(refusal(&missing.unwrap_err()), (404, text));
    let channel = connection.create_channel().await.unwrap();
    let other = channel.queue_declare(
        queue.as_str().into(),
        QueueDeclareOptions::durable(),
        table([("x-message-ttl", AMQPValue::LongInt(1_000))]),
    );
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{queue}' in vhost '/': received the value \
         '1000' of type 'signedint' but current is none"
    );
    assert_eq!(refusal(&other.await.unwrap_err()), (406, text));
    let channel = connection.create_channel().await.unwrap();
    delete(&channel, &queue).await;
    let nowhere = format!("{}x", amqp());
    let refused = Connection::connect(&nowhere, ConnectionProperties::default()).await;
    let text = "NOT_ALLOWED - vhost /x not found".to_owned();
    assert_eq!(refusal(&refused.unwrap_err()), (530, text));
}

#[tokio::test]
async fn a_get_tells_how_many_are_left_and_a_purge_how_many_there_were() {
    let _shows = shows("AMQP", CLIENT, "a get tells how many are left, a purge how many there were");
    let (connection, queue) = (connect().await, name("get"));
    let channel = confirming(&connection).await;
    declare(&channel, &queue, FieldTable::default()).await;
    assert!(channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().is_none());
    fill(&channel, &queue, 0..5).await;
    let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    assert_eq!((number(&got), u32::from(got.message_count)), (0, 4));
    let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    assert_eq!(u32::from(purged), 4);
    // What is out was not purged.
    got.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await.unwrap();
    let again =
        channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert_eq!((number(&again), again.redelivered), (0, true));
    delete(&channel, &queue).await;
}

#[tokio::test]
async fn a_transaction_is_there_with_its_commit_or_not_at_all() {
    let _shows = shows(
        "AMQP",
        CLIENT,
        "publishes and acknowledgements of a transaction are there with its commit or not at all",
    );
    let (connection, queue) = (connect().await, name("tx"));
    let looking = connection.create_channel().await.unwrap();
    declare(&looking, &queue, FieldTable::default()).await;
    let channel = connection.create_channel().await.unwrap();
    channel.tx_select().await.unwrap();
    for (commit, expected) in [(false, 0), (true, 3)] {
        for n in 0..3 {
            let options = BasicPublishOptions::default();
            let body = format!("{n}");
            let publish = channel.basic_publish(
                "".into(),
                queue.as_str().into(),
                options,
                body.as_bytes(),
                persistent(),
            );
            drop(publish.await.unwrap());
        }
        if commit {
            channel.tx_commit().await.unwrap()
        } else {
            channel.tx_rollback().await.unwrap()
        }
        assert_eq!(ready(&looking, &queue).await, expected);
    }
    let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    got.ack(BasicAckOptions::default()).await.unwrap();
    channel.tx_commit().await.unwrap();
    channel.close(200, "".into()).await.unwrap();
    assert_eq!(ready(&looking, &queue).await, 2);
    delete(&looking, &queue).await;
}

#[tokio::test]
async fn exchanges_choose_and_bindings_between_them_lead_on() {
    let _shows = shows(
        "AMQP",
        CLIENT,
        "topic, direct, fanout and headers exchanges choose, and bindings between exchanges lead on",
    );
    let connection = connect().await;
    let channel = confirming(&connection).await;
    let kinds = [ExchangeKind::Topic, ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Headers];
    let [topic, direct, fanout, headers] = ["topic", "direct", "fanout", "headers"].map(name);
    for (exchange, kind) in [&topic, &direct, &fanout, &headers].into_iter().zip(kinds) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(exchange.as_str().into(), kind, options, FieldTable::default())
            .await
            .unwrap();
    }
    let bind = ExchangeBindOptions::default();
    let (to, from) = (fanout.as_str().into(), topic.as_str().into());
    channel.exchange_bind(to, from, "order.#".into(), bind, FieldTable::default()).await.unwrap();
    let exclusive = QueueDeclareOptions::exclusive();
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
    let queue = queue.name().to_string();
    let all = table([("x-match", text("all")), ("kind", text("order"))]);
    for (exchange, key, arguments) in
        [(&fanout, "", FieldTable::default()), (&direct, "exact", FieldTable::default()), (&headers, "", all)]
    {
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        channel
            .queue_bind(queue, exchange, key.into(), QueueBindOptions::default(), arguments)
            .await
            .unwrap();
    }
    for (exchange, key, kind, arrives) in [
        (&topic, "order.created.us", "", true),
        (&topic, "payment.created", "", false),
        (&direct, "exact", "", true),
        (&direct, "other", "", false),
        (&headers, "", "order", true),
        (&headers, "", "payment", false),
    ] {
        let properties = BasicProperties::default().with_headers(table([("kind", text(kind))]));
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish(exchange.as_str().into(), key.into(), options, b"x", properties);
        assert!(publish.await.unwrap().await.unwrap().is_ack());
        let got = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap();
        assert_eq!(got.is_some(), arrives, "{exchange} {key} {kind}");
    }
    for exchange in [topic, direct, fanout, headers] {
        channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_consumer_had_whose_connection_broke_goes_to_the_others() {
    let _shows = shows(
        "AMQP",
        CLIENT,
        "competing consumers, one of which breaks off: nothing is lost, what it had is marked redelivered",
    );
    let (connection, queue) = (connect().await, name("competing"));
    let channel = confirming(&connection).await;
    declare(&channel, &queue, FieldTable::default()).await;
    let relay = clients::Relay::start(&clients::amqp_address());
    let victim = Connection::connect(&relay.url(), ConnectionProperties::default()).await.unwrap();
    let its = victim.create_channel().await.unwrap();
    its.basic_qos(20, BasicQosOptions::default()).await.unwrap();
    channel.basic_qos(20, BasicQosOptions::default()).await.unwrap();
    let mut killed = consume(&its, &queue, "").await;
    let mut survivor = consume(&channel, &queue, "").await;
    fill(&confirming(&connection).await, &queue, 0..300).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(number(&next(&mut killed).await));
    }
    relay.cut();
    let (mut seen, mut again) = (Vec::new(), Vec::new());
    while seen.len() < 300 {
        let delivery = next(&mut survivor).await;
        if delivery.redelivered {
            again.push(number(&delivery));
        }
        seen.push(number(&delivery));
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    for list in [&mut seen, &mut again, &mut held] {
        list.sort_unstable();
    }
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
    assert_eq!(again, held, "all that it had, and nothing else, says that it came again");
    delete(&channel, &queue).await;
}

#[tokio::test]
async fn a_single_active_consumer_hands_over_in_order() {
    let _shows = shows("AMQP", CLIENT, "a single active consumer hands over when it leaves");
    let (connection, queue) = (connect().await, name("single"));
    let channel = confirming(&connection).await;
    declare(&channel, &queue, table([("x-single-active-consumer", AMQPValue::Boolean(true))])).await;
    let mut one = consume(&channel, &queue, "one").await;
    let mut two = consume(&channel, &queue, "two").await;
    fill(&channel, &queue, 0..10).await;
    for n in 0..10 {
        let delivery = next(&mut one).await;
        assert_eq!(number(&delivery), n);
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    assert!(is_quiet(&mut two).await);
    channel.basic_cancel("one".into(), BasicCancelOptions::default()).await.unwrap();
    fill(&channel, &queue, 10..20).await;
    for n in 10..20 {
        let delivery = next(&mut two).await;
        assert_eq!(number(&delivery), n);
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    delete(&channel, &queue).await;
}

/// lapin's own recovery: it connects again and declares and consumes what it had.
#[tokio::test]
async fn after_a_kill_topology_and_consumers_come_back() {
    let _shows = shows(
        "AMQP",
        CLIENT,
        "a broker killed and started again: recovery brings topology and consumers back",
    );
    let mut broker = Broker::start();
    let properties = ConnectionProperties::default().enable_auto_recover().configure_backoff(|backoff| {
        let delay = std::time::Duration::from_millis(50);
        backoff.with_min_delay(delay).with_max_delay(delay).with_max_times(600)
    });
    let connection = Connection::connect(&broker.amqp(), properties).await.unwrap();
    let publisher = confirming(&connection).await;
    let worker = connection.create_channel().await.unwrap();
    let (durable, passing) = (name("durable"), name("passing"));
    declare(&publisher, &durable, FieldTable::default()).await;
    let exclusive = QueueDeclareOptions::exclusive();
    publisher.queue_declare(passing.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    let (topic, key) = ("amq.topic".into(), "to.#".into());
    let bind = QueueBindOptions::default();
    publisher.queue_bind(passing.as_str().into(), topic, key, bind, FieldTable::default()).await.unwrap();
    let mut consumer = consume(&worker, &durable, "worker").await;
    for round in 0..2 {
        put_and_recover(&publisher, "", &durable, "a").await;
        let delivery = next_and_recover(&mut consumer).await;
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        put_and_recover(&publisher, "amq.topic", "to.b", "b").await;
        let get = BasicGetOptions { no_ack: true };
        let got = publisher.basic_get(passing.as_str().into(), get).await.unwrap();
        assert_eq!(body(&got.unwrap()), "b", "round {round}");
        if round == 0 {
            // An acknowledgement has no answer; what comes after it and is on disk tells that it is too.
            worker.basic_qos(0, BasicQosOptions::default()).await.unwrap();
            declare(&worker, &name("later"), FieldTable::default()).await;
            broker.kill();
            broker.run();
        }
    }
    assert_eq!(ready(&publisher, &durable).await, 0, "what was confirmed is worked");
}

/// Publishes until it is confirmed, as lapin's documentation says. While lapin brings queues and bindings back, one after
/// another, a publish that comes before its binding is returned.
async fn put_and_recover(channel: &Channel, exchange: &str, key: &str, body: &str) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        assert!(std::time::Instant::now() < deadline, "{exchange} {key} leads nowhere");
        let publish =
            channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), persistent()).await;
        let confirmed = match publish {
            Ok(confirm) => timeout(PATIENCE, confirm).await.expect("a confirm in time"),
            Err(error) => Err(error),
        };
        match confirmed {
            Ok(Confirmation::Ack(None)) => return,
            Ok(_returned) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Err(error) => timeout(PATIENCE, channel.wait_for_recovery(error)).await.expect("back").unwrap(),
        }
    }
}

/// The next delivery, whatever errors come before it.
async fn next_and_recover(consumer: &mut Consumer) -> Delivery {
    loop {
        if let Ok(delivery) = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("no end") {
            return delivery;
        }
    }
}
