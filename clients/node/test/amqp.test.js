// Programs that people run against RabbitMQ today, as they write them with amqplib: only the address differs.
import assert from 'node:assert/strict'
import amqp from 'amqplib'
import { eventually, need, shows, sleep, unique } from '../lib/kit.js'

// Runs `body` with a connection, which is closed afterwards.
async function connected (body) {
  const connection = await amqp.connect(`amqp://guest:guest@${need('WIREMILL_AMQP')}`)
  connection.on('error', () => {})
  try {
    await body(connection)
  } finally {
    await connection.close().catch(() => {})
  }
}

// A consumer whose queue is deleted is given nothing, to tell it that it was cancelled.
const each = handle => message => { if (message) handle(message) }

const json = value => Buffer.from(JSON.stringify(value))
const persistent = { persistent: true, contentType: 'application/json' }

shows('amqplib', 'an order service on a topic exchange: each queue gets its regions, a failure is acknowledged away', () => connected(async connection => {
  const [exchange, queue] = [unique('events'), unique('us-order-processor')]
  const ch = await connection.createChannel()
  await ch.assertExchange(exchange, 'topic', { durable: true })
  await ch.assertQueue(queue, { durable: true })
  await ch.bindQueue(queue, exchange, 'order.*.us')
  await ch.bindQueue(queue, exchange, 'payment.*.us')
  const [processed, failed] = [[], []]
  await ch.consume(queue, each(message => {
    const order = JSON.parse(message.content.toString())
    if (order.n % 10 === 5) {
      failed.push(order.n)
      return ch.nack(message, false, false)
    }
    processed.push(message.fields.routingKey)
    ch.ack(message)
  }))
  for (let n = 0; n < 20; n++) {
    ch.publish(exchange, 'order.created.us', json({ n }), persistent)
    ch.publish(exchange, 'order.created.eu', json({ n }), persistent)
    ch.publish(exchange, 'payment.received.us', json({ n }), persistent)
  }
  await eventually('every order is handled', () => processed.length + failed.length === 40)
  await sleep(100)
  assert.equal(processed.filter(key => key === 'order.created.us').length, 18)
  assert.equal(processed.length, 36)
  assert.deepEqual(failed, [5, 5, 15, 15])
  assert.equal((await ch.checkQueue(queue)).messageCount, 0)
  await ch.deleteQueue(queue)
  await ch.deleteExchange(exchange)
}))

shows('amqplib', 'a queue with a dead-letter exchange, key and time to live: what is rejected or too old is there, and says why', () => connected(async connection => {
  const [dlx, queue, dead] = [unique('dlx'), unique('orders'), unique('orders-dead-letter')]
  const ch = await connection.createConfirmChannel()
  await ch.assertExchange(dlx, 'direct', { durable: true })
  await ch.assertQueue(dead, { durable: true })
  await ch.bindQueue(dead, dlx, 'orders.dead')
  await ch.assertQueue(queue, {
    durable: true,
    arguments: { 'x-dead-letter-exchange': dlx, 'x-dead-letter-routing-key': 'orders.dead', 'x-message-ttl': 8_000 }
  })
  ch.sendToQueue(queue, json({ n: 1 }), persistent)
  ch.sendToQueue(queue, json({ n: 2 }), persistent)
  await ch.waitForConfirms()
  const first = await ch.get(queue)
  assert.equal(JSON.parse(first.content.toString()).n, 1)
  ch.nack(first, false, false)
  const letters = []
  await ch.consume(dead, each(message => { letters.push(message); ch.ack(message) }))
  await eventually('both are dead letters', () => letters.length === 2)
  const [rejected, expired] = letters
  assert.deepEqual(letters.map(letter => JSON.parse(letter.content.toString()).n), [1, 2])
  assert.equal(rejected.fields.routingKey, 'orders.dead')
  for (const [letter, reason] of [[rejected, 'rejected'], [expired, 'expired']]) {
    const { headers } = letter.properties
    assert.equal(headers['x-first-death-reason'], reason)
    assert.equal(headers['x-first-death-queue'], queue)
    const [death] = headers['x-death']
    assert.deepEqual([death.count, death.reason, death.queue, death['routing-keys']], [1, reason, queue, [queue]])
  }
  for (const name of [queue, dead]) await ch.deleteQueue(name)
  await ch.deleteExchange(dlx)
}))

shows('amqplib', 'a retry ladder through a delay queue: three attempts, then parked', () => connected(async connection => {
  const [work, delay, parked] = [unique('work'), unique('delay'), unique('parked')]
  const ch = await connection.createConfirmChannel()
  await ch.assertQueue(parked, { durable: true })
  await ch.assertQueue(work, { durable: true, deadLetterExchange: '', deadLetterRoutingKey: delay })
  await ch.assertQueue(delay, { durable: true, deadLetterExchange: '', deadLetterRoutingKey: work, messageTtl: 100 })
  const attempts = []
  await ch.consume(work, each(message => {
    const deaths = message.properties.headers['x-death'] ?? []
    const count = deaths.find(death => death.queue === work)?.count ?? 0
    attempts.push(count)
    if (count < 2) return ch.nack(message, false, false)
    ch.sendToQueue(parked, message.content, persistent)
    ch.ack(message)
  }))
  ch.sendToQueue(work, json({ n: 1 }), persistent)
  await eventually('the message is parked', async () => (await ch.checkQueue(parked)).messageCount === 1)
  assert.deepEqual(attempts, [0, 1, 2])
  for (const name of [work, delay, parked]) await ch.deleteQueue(name)
}))

shows('amqplib', 'notifications with confirms, a limit that rejects, dead letters and prefetch 50: what was confirmed arrives', () => connected(async connection => {
  const [events, dlx, queue, dead] = [unique('events'), unique('events.dlx'), unique('notifications.us'), unique('dead')]
  const ch = await connection.createConfirmChannel()
  await ch.assertExchange(events, 'topic', { durable: true })
  await ch.assertExchange(dlx, 'direct', { durable: true })
  await ch.assertQueue(dead, { durable: true })
  await ch.bindQueue(dead, dlx, 'notifications.dead')
  await ch.assertQueue(queue, {
    durable: true,
    arguments: {
      'x-dead-letter-exchange': dlx, 'x-dead-letter-routing-key': 'notifications.dead', 'x-message-ttl': 60_000,
      'x-max-length': 500, 'x-overflow': 'reject-publish'
    }
  })
  await ch.bindQueue(queue, events, 'order.*.us')
  const confirmed = []
  let rejected = 0
  await Promise.all(Array.from({ length: 600 }, (_, n) => new Promise(resolve => {
    ch.publish(events, 'order.created.us', json({ n }), persistent, error => {
      if (error) rejected++
      else confirmed.push(n)
      resolve()
    })
  })))
  assert.deepEqual([confirmed.length, rejected], [500, 100])
  await ch.prefetch(50)
  const [seen, failed] = [[], []]
  await ch.consume(queue, each(message => {
    const { n } = JSON.parse(message.content.toString())
    if (n % 100 === 7) {
      failed.push(n)
      return ch.nack(message, false, false)
    }
    seen.push(n)
    ch.ack(message)
  }))
  await eventually('everything confirmed is handled', () => seen.length + failed.length === confirmed.length)
  assert.deepEqual([...seen, ...failed].sort((a, b) => a - b), confirmed.sort((a, b) => a - b))
  await eventually('the failures are dead letters', async () => (await ch.checkQueue(dead)).messageCount === failed.length)
  for (const name of [queue, dead]) await ch.deleteQueue(name)
  for (const name of [events, dlx]) await ch.deleteExchange(name)
}))

shows('amqplib', 'higher priorities come first from a backlog', () => connected(async connection => {
  const queue = unique('priorities')
  const ch = await connection.createConfirmChannel()
  await ch.assertQueue(queue, { durable: true, maxPriority: 5 })
  for (let n = 0; n < 100; n++) ch.sendToQueue(queue, json({ n }), { ...persistent, priority: n % 5 })
  await ch.waitForConfirms()
  const order = []
  await ch.consume(queue, each(message => { order.push(message.properties.priority ?? 0); ch.ack(message) }))
  await eventually('all came', () => order.length === 100)
  assert.deepEqual(order, [...order].sort((a, b) => b - a))
  await ch.deleteQueue(queue)
}))

shows('amqplib', 'a single active consumer hands over when it leaves', () => connected(async connection => {
  const queue = unique('single')
  const ch = await connection.createChannel()
  await ch.assertQueue(queue, { durable: true, arguments: { 'x-single-active-consumer': true } })
  const seen = { one: [], two: [] }
  const consume = tag => ch.consume(queue, each(message => { seen[tag].push(message.content.toString()); ch.ack(message) }), { consumerTag: tag })
  await consume('one')
  await consume('two')
  for (let n = 0; n < 10; n++) ch.sendToQueue(queue, Buffer.from(`${n}`))
  await eventually('the first does it all', () => seen.one.length === 10)
  await ch.cancel('one')
  ch.sendToQueue(queue, Buffer.from('last'))
  await eventually('the second goes on', () => seen.two.length === 1)
  await ch.deleteQueue(queue)
}))

shows('amqplib', 'a confirm channel that is closed while confirms are out does its connection no harm', () => connected(async connection => {
  const queue = unique('closed-early')
  const other = await connection.createChannel()
  await other.assertQueue(queue, { durable: true })
  const rounds = 20
  for (let round = 0; round < rounds; round++) {
    const ch = await connection.createConfirmChannel()
    ch.sendToQueue(queue, json({ round }), persistent)
    await ch.close()
  }
  await eventually('every message is there', async () => (await other.checkQueue(queue)).messageCount === rounds)
  await other.deleteQueue(queue)
}))

shows('amqplib', 'a burst into a short queue leaves the newest, and what a consumer takes of one does not count', () => connected(async connection => {
  const queue = unique('latest')
  const ch = await connection.createConfirmChannel()
  await ch.assertQueue(queue, { durable: true, maxLength: 2 })
  const burst = async () => {
    for (let n = 0; n < 50; n++) ch.sendToQueue(queue, json({ n }), persistent)
    await ch.waitForConfirms()
  }
  await burst()
  assert.equal((await ch.checkQueue(queue)).messageCount, 2)
  for (const n of [48, 49]) assert.equal(JSON.parse((await ch.get(queue, { noAck: true })).content).n, n)
  const seen = []
  await ch.consume(queue, each(message => { seen.push(JSON.parse(message.content).n) }), { noAck: true })
  await burst()
  await eventually('all came', () => seen.length === 50)
  assert.deepEqual(seen, [...seen].sort((a, b) => a - b))
  await ch.deleteQueue(queue)
}))
