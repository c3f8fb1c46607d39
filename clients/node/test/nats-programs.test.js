// Programs that people run against NATS today, as they write them: only the address differs. Each runs with the older
// package `nats` and with its successors `@nats-io/*`, which differ in how things are made and read.
import assert from 'node:assert/strict'
import { AckPolicy, RetentionPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import * as older from 'nats'
import { withBroker } from '../lib/broker.js'
import { eventually, shows } from '../lib/kit.js'

const codec = older.JSONCodec()
const LIBRARIES = [
  {
    core: '@nats-io/transport-node',
    streams: '@nats-io/jetstream',
    connect,
    encode: JSON.stringify,
    decode: message => message.json(),
    jetstream: async nc => ({ nc, js: jetstream(nc), jsm: await jetstreamManager(nc) }),
    limits: RetentionPolicy.Limits,
    explicit: AckPolicy.Explicit
  },
  {
    core: 'nats',
    streams: 'nats',
    connect: older.connect,
    encode: codec.encode,
    decode: message => codec.decode(message.data),
    jetstream: async nc => ({ nc, js: nc.jetstream(), jsm: await nc.jetstreamManager() }),
    limits: older.RetentionPolicy.Limits,
    explicit: older.AckPolicy.Explicit
  }
]
const SEVEN_DAYS_NS = 7 * 24 * 60 * 60 * 1_000_000_000
const PROCESSORS = 3
const ORDERS = 300

const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n)

for (const { core, connect, encode, decode } of LIBRARIES) {
  shows(core, 'orders.created, worked by the queue group order-processors with async iteration: once each, and what came before is gone', () => withBroker(async broker => {
    const publisher = await connect({ servers: broker.nats })
    publisher.publish('orders.created', encode({ orderId: 'nobody listens' }))
    await publisher.flush()
    const byProcessor = []
    const workers = []
    const connections = []
    for (let n = 0; n < PROCESSORS; n++) {
      const nc = await connect({ servers: broker.nats, name: `order-processor-${n}` })
      const taken = []
      byProcessor.push(taken)
      connections.push(nc)
      const subscription = nc.subscribe('orders.created', { queue: 'order-processors' })
      workers.push((async () => {
        for await (const message of subscription) taken.push(decode(message).orderId)
      })())
      await nc.flush()
    }
    for (const orderId of numbers(0, ORDERS)) publisher.publish('orders.created', encode({ orderId }))
    await publisher.flush()
    await eventually('all orders are taken', () => byProcessor.flat().length >= ORDERS)
    // What is in hand is finished: the iterations end.
    await Promise.all(connections.map(nc => nc.drain()))
    await Promise.all(workers)
    assert.deepEqual(byProcessor.flat().sort((a, b) => a - b), numbers(0, ORDERS))
    assert(byProcessor.every(taken => taken.length > 0), `${byProcessor.map(taken => taken.length)}`)
    await publisher.close()
  }))
}

// Works orders off until each was done once, and those that were refused the first time (one in ten) twice.
async function work (js, decode, from, to) {
  const seen = new Map()
  const consumer = await js.consumers.get('ORDERS', 'order-processor')
  const messages = await consumer.consume()
  const working = (async () => {
    for await (const message of messages) {
      const { orderId } = decode(message)
      seen.set(orderId, (seen.get(orderId) ?? 0) + 1)
      assert.equal(message.info.deliveryCount, seen.get(orderId))
      if (orderId % 10 === 3 && seen.get(orderId) === 1) message.nak(100)
      else message.ack()
    }
  })()
  const expected = new Map(numbers(from, to).map(n => [n, n % 10 === 3 ? 2 : 1]))
  await eventually('every order is worked', () => [...expected].every(([n, times]) => seen.get(n) >= times))
  await messages.close()
  await working
  assert.deepEqual(new Map([...seen].sort(([a], [b]) => a - b)), expected)
  await eventually('nothing is left', async () => {
    const { num_pending: pending, num_ack_pending: unsettled } = await consumer.info()
    return pending + unsettled === 0
  })
}

for (const { streams, connect, encode, decode, jetstream, limits, explicit } of LIBRARIES) {
  shows(streams, 'stream ORDERS on orders.>, a durable consumer with consume(): a refused order comes again, and a crash loses and repeats none', () => withBroker(async broker => {
    const open = async () => jetstream(await connect({ servers: broker.nats }))
    const publish = async (js, from, to) => {
      for (const orderId of numbers(from, to)) await js.publish('orders.created', encode({ orderId }))
    }
    // As services do it when they start: it may be there already.
    const setUp = async jsm => {
      await jsm.streams.add({ name: 'ORDERS', subjects: ['orders.>'], retention: limits, max_msgs: 1_000_000, max_age: SEVEN_DAYS_NS })
      await jsm.consumers.add('ORDERS', { durable_name: 'order-processor', ack_policy: explicit })
    }
    const before = await open()
    await setUp(before.jsm)
    await publish(before.js, 0, 100)
    await work(before.js, decode, 0, 100)
    await publish(before.js, 100, 150)
    await before.nc.close()
    await broker.restart()
    const after = await open()
    await setUp(after.jsm)
    const { config, state } = await after.jsm.streams.info('ORDERS')
    assert.deepEqual([config.max_msgs, config.max_age, config.retention, state.messages], [1_000_000, SEVEN_DAYS_NS, 'limits', 150])
    await work(after.js, decode, 100, 150)
    await after.nc.close()
  }))
}
