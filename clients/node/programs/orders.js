// One side of programs that cross protocols: `orders.js produce TOPIC COUNT` sends orders as applications do,
// `orders.js read TOPIC COUNT` prints what the topic holds, a line of JSON for each message.
import { Partitioners, createTopic, kafka, readAll } from '../lib/kafkajs.js'

const USERS = ['ann', 'bob', 'cem']
const [verb, topic, count] = process.argv.slice(2)

async function produce () {
  await createTopic(topic, 1)
  const producer = kafka().producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const messages = Array.from({ length: Number(count) }, (_, n) => ({
    key: USERS[n % USERS.length], value: JSON.stringify({ type: 'ORDER_CREATED', payload: { n } }), headers: { 'x-trace-id': `trace-${n}` }
  }))
  await producer.send({ topic, acks: -1, messages })
  await producer.disconnect()
}

async function read () {
  for (const { key, value } of await readAll(topic, Number(count))) {
    console.log(JSON.stringify({ key: key.toString(), value: value.toString() }))
  }
}

await (verb === 'produce' ? produce() : read())
process.exit(0)
