// What programs written with @nats-io/jetstream, kv and obj see.
import assert from 'node:assert/strict'
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { Kvm } from '@nats-io/kv'
import { Objm } from '@nats-io/obj'
import { connect } from '@nats-io/transport-node'
import { eventually, need, shows as showsWith, unique } from '../lib/kit.js'

const shows = (capability, body) => showsWith('@nats-io/jetstream', capability, body)
const numbers = count => Array.from({ length: count }, (_, n) => String(n))

// Runs `body` with clients of JetStream and the name of a stream of its own.
async function withStream (body) {
  const nc = await connect({ servers: need('WIREMILL_NATS') })
  try {
    const [js, jsm, name] = [jetstream(nc), await jetstreamManager(nc), unique('stream')]
    await jsm.streams.add({ name, subjects: [`${name}.>`] })
    await body({ nc, js, jsm, name })
  } finally {
    await nc.close()
  }
}

async function put (js, subject, bodies) {
  for (const body of bodies) await js.publish(subject, body)
}

async function take (messages, count, each = () => {}) {
  const texts = []
  for await (const message of messages) {
    texts.push(message.string())
    await each(message)
    if (texts.length === count) break
  }
  return texts
}

shows('a durable pull consumer gets messages in order and acknowledges them', () => withStream(async ({ js, jsm, name }) => {
  await put(js, `${name}.a`, numbers(10))
  await jsm.consumers.add(name, { durable_name: 'worker', ack_policy: AckPolicy.Explicit })
  const consumer = await js.consumers.get(name, 'worker')
  const fetched = await consumer.fetch({ max_messages: 4, expires: 5_000 })
  assert.deepEqual(await take(fetched, 4, message => message.ackAck()), numbers(4))
  const consuming = await consumer.consume()
  assert.deepEqual(await take(consuming, 6, message => message.ackAck()), numbers(10).slice(4))
  const info = await consumer.info()
  assert.deepEqual([info.num_ack_pending, info.ack_floor.stream_seq, info.num_pending], [0, 10, 0])
}))

shows('an ordered consumer reads everything', () => withStream(async ({ js, name }) => {
  await put(js, `${name}.a`, numbers(200))
  const consumer = await js.consumers.get(name)
  assert.deepEqual(await take(await consumer.consume(), 200), numbers(200))
}))

shows('push consumers deliver to subscribers', () => withStream(async ({ js, jsm, name }) => {
  await put(js, `${name}.a`, numbers(20))
  await jsm.consumers.add(name, {
    durable_name: 'push',
    deliver_subject: unique('deliver'),
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
  })
  const consumer = await js.consumers.getPushConsumer(name, 'push')
  assert.deepEqual(await take(await consumer.consume(), 20, message => message.ack()), numbers(20))
}))

shows('a key-value bucket keeps values, their history and revisions', () => withStream(async ({ js }) => {
  const kv = await new Kvm(js).create(unique('bucket'), { history: 5 })
  const first = await kv.create('name', 'derek')
  await assert.rejects(kv.create('name', 'again'))
  const second = await kv.update('name', 'rip', first)
  await assert.rejects(kv.update('name', 'old', first))
  const entry = await kv.get('name')
  assert.deepEqual([entry.string(), entry.revision], ['rip', second])
  await kv.put('age', '22')
  const history = []
  for await (const one of await kv.history({ key: 'name' })) history.push(one.string())
  assert.deepEqual(history, ['derek', 'rip'])
  const keys = []
  for await (const key of await kv.keys()) keys.push(key)
  assert.deepEqual(keys.sort(), ['age', 'name'])
  await kv.delete('age')
  assert.equal((await kv.get('age')).operation, 'DEL')
  await kv.purge('name')
}))

shows('a watcher sees the present values of a bucket, then every change', () => withStream(async ({ js }) => {
  const kv = await new Kvm(js).create(unique('bucket'))
  await kv.put('a.x', '1')
  await kv.put('b.x', '2')
  const watcher = await kv.watch({ key: 'a.*' })
  await kv.put('a.y', '3')
  await kv.delete('a.x')
  const seen = []
  for await (const entry of watcher) {
    seen.push(`${entry.key} ${entry.operation}`)
    if (seen.length === 3) break
  }
  assert.deepEqual(seen, ['a.x PUT', 'a.y PUT', 'a.x DEL'])
}))

shows('an object store keeps objects in chunks', () => withStream(async ({ js }) => {
  const store = await new Objm(js).create(unique('objects'))
  const body = Uint8Array.from({ length: 400_000 }, (_, at) => at * 31 % 256)
  const info = await store.putBlob({ name: 'big' }, body)
  assert.equal(info.chunks, 4)
  assert.deepEqual(await store.getBlob('big'), body)
  await store.delete('big')
  assert.equal(await store.getBlob('big'), null)
}))

shows('values of a bucket with a TTL are gone when it is over', () => withStream(async ({ js }) => {
  const kv = await new Kvm(js).create(unique('bucket'), { ttl: 1_500 })
  const began = Date.now()
  await kv.put('session', 'open')
  const entry = await kv.get('session')
  assert(entry || Date.now() - began >= 1_500, 'it is gone too early')
  await eventually('it is gone', async () => (await kv.get('session')) === null)
  assert(Date.now() - began >= 1_500, 'it was gone too early')
  await kv.create('session', 'open again')
}))

shows('a watcher of an object store sees the present objects, then every change', () => withStream(async ({ js }) => {
  const store = await new Objm(js).create(unique('objects'))
  await store.putBlob({ name: 'a' }, new Uint8Array(1))
  const watcher = await store.watch({ includeHistory: true })
  const seen = []
  const watching = (async () => {
    for await (const info of watcher) {
      seen.push(`${info.name} ${info.size} ${info.deleted}`)
      if (seen.length === 4) break
    }
  })()
  await eventually('the present one is seen', () => seen.length === 1)
  await store.putBlob({ name: 'a' }, new Uint8Array(2))
  await store.putBlob({ name: 'b' }, new Uint8Array(3))
  await store.delete('a')
  await watching
  assert.deepEqual(seen, ['a 1 false', 'a 2 false', 'b 3 false', 'a 0 true'])
}))

shows('a key with a TTL of its own is gone when it is over, and a watcher is told by a marker', () => withStream(async ({ js }) => {
  const kv = await new Kvm(js).create(unique('bucket'), { markerTTL: 60_000 })
  const watcher = await kv.watch()
  await kv.create('short', '1', '1s')
  await kv.create('long', '2')
  const seen = []
  for await (const entry of watcher) {
    seen.push(`${entry.key} ${entry.operation}`)
    if (seen.length === 3) break
  }
  assert.deepEqual(seen, ['short PUT', 'long PUT', 'short PURGE'])
  assert.equal((await kv.get('long')).string(), '2')
}))
