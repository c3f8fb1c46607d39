// What programs written with @nats-io/transport-node see.
import assert from 'node:assert/strict'
import { connect, headers } from '@nats-io/transport-node'
import { withBroker } from '../lib/broker.js'
import { eventually, need, shows as showsWith, unique } from '../lib/kit.js'

const shows = (capability, body) => showsWith('@nats-io/transport-node', capability, body)

// Runs `body` with a way to connect; what it connected is closed afterwards.
async function connected (body, address = need('WIREMILL_NATS')) {
  const all = []
  const dial = async options => {
    const nc = await connect({ servers: address, maxReconnectAttempts: -1, reconnectTimeWait: 20, ...options })
    all.push(nc)
    return nc
  }
  try {
    await body(dial)
  } finally {
    await Promise.all(all.map(nc => nc.close()))
  }
}

// The next `count` messages of a subscription.
async function take (subscription, count) {
  const messages = []
  for await (const message of subscription) {
    messages.push(message)
    if (messages.length === count) break
  }
  return messages
}

const texts = messages => messages.map(message => message.string())
const numbers = count => Array.from({ length: count }, (_, n) => String(n))

shows('a publish reaches every subscription that matches, with wildcards', () => connected(async dial => {
  const [nc, root] = [await dial(), unique('wild')]
  const subscriptions = ['*', '>', 'a'].map(last => nc.subscribe(`${root}.${last}`))
  nc.publish(`${root}.a`, '1')
  nc.publish(`${root}.a.b`, '2')
  nc.publish(`${root}.a`, '3')
  const got = await Promise.all(subscriptions.map((subscription, at) => take(subscription, at === 1 ? 3 : 2)))
  assert.deepEqual(got.map(texts), [['1', '3'], ['1', '2', '3'], ['1', '3']])
}))

shows('a message that nobody listens to is gone', () => connected(async dial => {
  const [nc, subject] = [await dial(), unique('orders') + '.created']
  nc.publish(subject, 'early')
  await nc.flush()
  const subscription = nc.subscribe(subject)
  nc.publish(subject, 'late')
  assert.deepEqual(texts(await take(subscription, 1)), ['late'])
}))

shows('a queue group gives each message to one of its members', () => connected(async dial => {
  const [subject, count, seen, members] = [unique('orders') + '.created', 1_000, [], [0, 0, 0]]
  for (const member of members.keys()) {
    const nc = await dial()
    const subscription = nc.subscribe(subject, { queue: 'order-processors' })
    ;(async () => {
      for await (const message of subscription) {
        seen.push(message.string())
        members[member]++
      }
    })()
    await nc.flush()
  }
  const nc = await dial()
  for (const body of numbers(count)) nc.publish(subject, body)
  await nc.flush()
  await eventually('every message was taken', () => seen.length >= count)
  assert.deepEqual(seen.toSorted((a, b) => a - b), numbers(count))
  assert(members.every(taken => taken > 0), `members took ${members}`)
}))

shows('a subscription ends after as many messages as it asked for', () => connected(async dial => {
  const [nc, subject] = [await dial(), unique('few')]
  const subscription = nc.subscribe(subject, { max: 3 })
  for (const body of numbers(5)) nc.publish(subject, body)
  const got = []
  for await (const message of subscription) got.push(message.string())
  assert.deepEqual(got, ['0', '1', '2'])
  await assert.rejects(nc.request(subject), /no responders/)
}))

shows('headers travel with a message', () => connected(async dial => {
  const [nc, subject] = [await dial(), unique('headers')]
  const subscription = nc.subscribe(subject)
  const sent = headers()
  sent.append('Trace-Id', 'a')
  sent.append('Trace-Id', 'b')
  nc.publish(subject, 'body', { headers: sent })
  const [got] = await take(subscription, 1)
  assert.deepEqual(got.headers.values('Trace-Id'), ['a', 'b'])
  assert.equal(got.string(), 'body')
}))

shows('a client that asks for no echo does not get its own messages', () => connected(async dial => {
  const [quiet, other, subject] = [await dial({ noEcho: true }), await dial(), unique('echo')]
  const own = quiet.subscribe(subject)
  await quiet.flush()
  quiet.publish(subject, 'mine')
  await quiet.flush()
  other.publish(subject, 'theirs')
  assert.deepEqual(texts(await take(own, 1)), ['theirs'])
}))

shows('messages up to max_payload pass, and a longer one is an error', () => connected(async dial => {
  const [nc, subject] = [await dial(), unique('long')]
  const subscription = nc.subscribe(subject)
  const most = nc.info.max_payload
  assert.equal(most, 1 << 20)
  nc.publish(subject, new Uint8Array(most))
  assert.equal((await take(subscription, 1))[0].data.length, most)
  assert.throws(() => nc.publish(subject, new Uint8Array(most + 1)), /max_payload size exceeded/)
}))

shows('a request is answered by one of several instances of a service', () => connected(async dial => {
  const subject = unique('api') + '.users.get'
  for (let instance = 0; instance < 3; instance++) {
    const nc = await dial()
    nc.subscribe(subject, { queue: 'users', callback: (_, request) => request.respond(`user ${request.string()}`) })
    await nc.flush()
  }
  const nc = await dial()
  const answers = await Promise.all(numbers(200).map(body => nc.request(subject, body, { timeout: 30_000 })))
  assert.deepEqual(texts(answers), numbers(200).map(body => `user ${body}`))
  const oldStyle = await nc.request(subject, '7', { timeout: 30_000, noMux: true })
  assert.equal(oldStyle.string(), 'user 7')
}))

shows('a request that nobody serves fails at once', () => connected(async dial => {
  const nc = await dial()
  await assert.rejects(nc.request(unique('nobody'), '', { timeout: 60_000 }), /no responders/i)
}))

shows('draining a subscriber loses and repeats nothing', () => connected(async dial => {
  const [subject, count, seen] = [unique('drain'), 10_000, []]
  const join = async () => {
    const nc = await dial()
    nc.subscribe(subject, { queue: 'workers', callback: (_, message) => seen.push(message.string()) })
    await nc.flush()
    return nc
  }
  const [leaving, publisher] = [await join(), await dial()]
  await join()
  let drained
  for (const body of numbers(count)) {
    publisher.publish(subject, body)
    if (Number(body) % 1_000 === 0) await publisher.flush()
    if (Number(body) === count / 2) drained = leaving.drain()
  }
  await publisher.flush()
  await drained
  await eventually('every message was taken', () => seen.length >= count)
  assert.deepEqual(seen.toSorted((a, b) => a - b), numbers(count))
}))

shows('clients come back after a restart, with their subscriptions', () => withBroker(broker => connected(async dial => {
  const nc = await dial()
  const subscription = nc.subscribe('restart.>')
  await nc.flush()
  const back = (async () => {
    for await (const status of nc.status()) if (status.type === 'reconnect') return
  })()
  await broker.restart()
  await back
  nc.publish('restart.a', 'after')
  assert.deepEqual(texts(await take(subscription, 1)), ['after'])
}, broker.nats)))

shows('users are let in by name and password, and nobody else', () => withBroker(broker => connected(async dial => {
  broker.addUser('alice', 'correct horse')
  const nc = await dial({ user: 'alice', pass: 'correct horse' })
  const subscription = nc.subscribe('a')
  nc.publish('a', '1')
  assert.deepEqual(texts(await take(subscription, 1)), ['1'])
  for (const wrong of [{ user: 'alice', pass: 'wrong' }, { user: 'bob', pass: 'correct horse' }, { token: 'x' }, {}]) {
    await assert.rejects(dial({ ...wrong, reconnect: false }), /authorization violation/i)
  }
}, broker.nats)))

shows('what a user may not publish or subscribe to is told as a permissions violation', () => withBroker(broker => connected(async dial => {
  broker.addUser('root', 'correct horse')
  broker.addUser('tenant-7', 'correct horse', '--as', 'root:correct horse', '--allow', 'write:tenants.7.events.*', '--allow', 'read:_INBOX.*')
  const nc = await dial({ user: 'tenant-7', pass: 'correct horse' })
  const told = (async () => {
    for await (const status of nc.status()) if (status.type === 'error') return status.error
  })()
  nc.publish('tenants.8.events.a', 'forbidden')
  assert.equal((await told).subject, 'tenants.8.events.a')
  const forbidden = nc.subscribe('tenants.7.events.>')
  await assert.rejects(take(forbidden, 1), /permissions violation/i)
  nc.publish('tenants.7.events.a', 'allowed')
  await nc.flush()
  assert(!nc.isClosed())
}, broker.nats)))

shows('TLS begins after the first line, and the certificate is verified', () => withBroker(broker => connected(async dial => {
  const nc = await dial({ tls: { ca: broker.ca } })
  const subscription = nc.subscribe('a')
  for (const body of numbers(1_000)) nc.publish('a', body)
  assert.deepEqual(texts(await take(subscription, 1_000)), numbers(1_000))
  await assert.rejects(dial({ tls: {}, reconnect: false }))
}, broker.nats), { tls: 'nats' }))
