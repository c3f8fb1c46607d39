// Places as many orders as the argument says, one after another, keyed by user.
const { Kafka, logLevel } = require("kafkajs");

const topic = process.env.ORDERS ?? "orders";
const count = Number(process.argv[2] ?? "10");

async function main() {
  const kafka = new Kafka({
    clientId: "shop",
    brokers: [process.env.WIREMILL_KAFKA ?? "127.0.0.1:9092"],
    logLevel: logLevel.ERROR,
  });
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (let n = 0; n < count; n++) {
    const user = `user-${n % 3}`;
    const order = { type: "ORDER_CREATED", payload: { id: n, user }, timestamp: Date.now() };
    await producer.send({ topic, acks: -1, messages: [{ key: user, value: JSON.stringify(order) }] });
  }
  await producer.disconnect();
  console.log(`placed ${count} orders`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
