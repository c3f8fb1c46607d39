// Programs that people run against brokers today, as they write them: only the address differs.
import assert from 'node:assert/strict'
import { withTlsBroker } from '../lib/broker.js'
import { Partitioners, createTopic, cuttable, kafka, readAll } from '../lib/kafkajs.js'
import { eventually, shows, sleep, unique } from '../lib/kit.js'

shows('kafkajs', 'an order processor whose handler throws now and then: per-key order, and the thrown message comes again', async () => {
  const topic = unique('orders')
  const groupId = unique('order-processor')
  await createTopic(topic, 3)
  const producer = kafka().producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const send = (userId, n) => producer.send({
    topic,
    messages: [{ key: userId, value: JSON.stringify({ type: 'ORDER_CREATED', payload: { n }, timestamp: Date.now() }) }]
  })
  await send('before', 0)

  const consumer = kafka({ retry: { initialRetryTime: 50, maxRetryTime: 200, retries: 20 } })
    .consumer({ groupId, heartbeatInterval: 500, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: false })
  const processed = new Map()
  const thrown = new Set()
  const again = new Set()
  let joined = false
  consumer.on(consumer.events.GROUP_JOIN, () => { joined = true })
  await consumer.run({
    eachMessage: async ({ message }) => {
      const order = JSON.parse(message.value.toString())
      assert.equal(order.type, 'ORDER_CREATED')
      const key = message.key.toString()
      const name = `${key}/${order.payload.n}`
      if (order.payload.n % 10 === 5 && !thrown.has(name)) {
        thrown.add(name)
        throw new Error('the database is away')
      }
      if (thrown.has(name)) again.add(name)
      processed.set(key, [...(processed.get(key) ?? []), order.payload.n])
    }
  })
  await eventually('the group is joined', () => joined)
  // The positions of a group that starts at the end are asked for after the join.
  await sleep(2_000)
  const users = ['alice', 'bob', 'carol', 'dave']
  for (let n = 1; n <= 20; n++) {
    for (const user of users) await send(user, n)
  }
  await eventually('every user has the last order', () => users.every(user => processed.get(user)?.at(-1) === 20))
  await consumer.disconnect()
  await producer.disconnect()

  assert.equal(processed.has('before'), false, 'a group that starts at the end was given an older message')
  assert.equal(again.size, 8, 'each thrown message comes again')
  for (const user of users) {
    // A repeat goes back some orders and never skips one.
    const numbers = processed.get(user)
    numbers.slice(1).forEach((n, i) => assert.ok(n <= numbers[i] + 1, `${user}: ${n} after ${numbers[i]}`))
    assert.equal(new Set(numbers).size, 20, `${user} is missing orders`)
  }
})

// An idempotent producer of 200 messages; ten times the answer to one is cut off.
async function produceOverCutConnections (topic, options) {
  const { state, socketFactory } = cuttable()
  const producer = kafka({ ...options, socketFactory, retry: { initialRetryTime: 20, retries: 20 } }).producer({
    createPartitioner: Partitioners.DefaultPartitioner, idempotent: true, maxInFlightRequests: 5, transactionTimeout: 30_000
  })
  await producer.connect()
  for (let n = 0; n < 200; n++) {
    if (n % 20 === 10) state.armed = true
    await producer.send({
      topic, acks: -1, messages: [{ key: `k${n % 3}`, value: String(n), headers: { 'x-trace-id': `trace-${n}` } }]
    })
  }
  await producer.disconnect()
  assert.ok(state.cuts >= 10, `only ${state.cuts} connections were cut`)
  const messages = await readAll(topic, 200, options)
  assert.deepEqual(messages.map(message => message.value.toString()), Array.from({ length: 200 }, (_, n) => String(n)))
  assert.deepEqual(messages.map(message => message.offset), Array.from({ length: 200 }, (_, n) => String(n)))
  assert.equal(messages[7].headers['x-trace-id'].toString(), 'trace-7')
}

shows('kafkajs', 'an idempotent producer writes no duplicates across broken connections', async () => {
  const topic = unique('orders.v1')
  await createTopic(topic, 1)
  await produceOverCutConnections(topic, {})
})

shows('kafkajs', 'TLS with SASL SCRAM-SHA-512: an idempotent producer writes no duplicates across broken connections', () =>
  withTlsBroker(async broker => {
    broker.addUser('orders', 'correct horse')
    // Made anew for each client: kafkajs keeps a login in the object that it is given.
    const as = password => ({
      brokers: [broker.kafka],
      clientId: 'order-service',
      ssl: { ca: [broker.ca] },
      sasl: { mechanism: 'scram-sha-512', username: 'orders', password }
    })
    const options = as('correct horse')
    const topic = unique('orders.v1')
    await createTopic(topic, 1, [], options)
    await produceOverCutConnections(topic, options)
    const stranger = kafka({ ...as('battery staple'), retry: { retries: 0 } })
    await assert.rejects(stranger.admin().connect(), { name: 'KafkaJSSASLAuthenticationError' })
  }))

shows('kafkajs', 'a projector that commits each message itself: the failed one comes again, a restart repeats nothing', async () => {
  const topic = unique('match-events')
  const groupId = unique('standings-projector')
  await createTopic(topic, 8)
  const producer = kafka().producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const total = 400
  await producer.send({
    topic, messages: Array.from({ length: total }, (_, n) => ({ key: `match-${n % 16}`, value: String(n) }))
  })
  await producer.disconnect()

  const completed = []
  const failed = new Set()
  const failedAgain = new Set()
  let inHand = 0
  const runUntil = async (enough) => {
    const consumer = kafka({ retry: { initialRetryTime: 50, maxRetryTime: 200, retries: 20 } }).consumer({
      groupId, sessionTimeout: 30_000, heartbeatInterval: 3_000, maxWaitTimeInMs: 500, maxBytesPerPartition: 1_048_576
    })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: 4,
      eachMessage: async ({ partition, message, heartbeat }) => {
        const n = message.value.toString()
        inHand++
        try {
          if (Number(n) % 50 === 7 && !failed.has(n)) {
            failed.add(n)
            throw new Error('no standings yet')
          }
          if (failed.has(n)) failedAgain.add(n)
          await sleep(1)
          completed.push(n)
          await consumer.commitOffsets([{ topic, partition, offset: (BigInt(message.offset) + 1n).toString() }])
        } catch (error) {
          await heartbeat()
          throw error
        } finally {
          inHand--
        }
      }
    })
    await eventually('enough is projected', () => enough())
    // A commit that the leave overtakes is refused: what is in hand is finished first.
    consumer.pause([{ topic }])
    await eventually('nothing is in hand', () => inHand === 0)
    await consumer.disconnect()
  }
  await runUntil(() => completed.length >= total / 2)
  await runUntil(() => new Set(completed).size === total)

  assert.equal(completed.length, total, 'a message was completed twice')
  assert.equal(failed.size, 8)
  assert.equal(failedAgain.size, 8, 'each failed message comes again')
  const perMatch = new Map()
  for (const n of completed.map(Number)) {
    assert.ok((perMatch.get(n % 16) ?? -1) < n, `match ${n % 16}: ${n} after ${perMatch.get(n % 16)}`)
    perMatch.set(n % 16, n)
  }
  const admin = kafka().admin()
  await admin.connect()
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  await admin.disconnect()
  const committed = partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
  assert.equal(committed, total)
})
