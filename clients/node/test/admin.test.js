// What the admin client and the codecs of kafkajs see.
import assert from 'node:assert/strict'
import { CompressionTypes, ConfigResourceTypes, Partitioners, createTopic, kafka, readAll } from '../lib/kafkajs.js'
import { eventually, shows, unique } from '../lib/kit.js'

// An hour ago: retention goes by the producer's clock, and takes what is a week old.
const first = Date.now() - 3_600_000

async function withAdmin (body) {
  const admin = kafka().admin()
  await admin.connect()
  try {
    await body(admin)
  } finally {
    await admin.disconnect()
  }
}

async function produce (topic, messages, options = {}) {
  const producer = kafka().producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const answers = await producer.send({ topic, messages, ...options })
  await producer.disconnect()
  return answers
}

shows('kafkajs', 'records come back as sent, compressed with gzip', async () => {
  const topic = unique('gzip')
  await createTopic(topic, 1)
  const text = 'a sentence that is worth compressing, '.repeat(500)
  const sent = Array.from({ length: 50 }, (_, n) => ({
    key: n % 2 ? `key-${n}` : null, value: n % 7 ? text + n : null, headers: { n: String(n), binary: Buffer.from([0, 255, n]) }, timestamp: String(first + n)
  }))
  await produce(topic, sent, { compression: CompressionTypes.GZIP })
  const got = await readAll(topic, sent.length)
  sent.forEach((want, n) => {
    assert.equal(got[n].offset, String(n))
    assert.equal(got[n].key?.toString() ?? null, want.key)
    assert.equal(got[n].value?.toString() ?? null, want.value)
    assert.equal(got[n].timestamp, want.timestamp)
    assert.equal(got[n].headers.n.toString(), String(n))
    assert.deepEqual(got[n].headers.binary, Buffer.from([0, 255, n]))
  })
})

shows('kafkajs', 'topics: create, describe, grow, delete; cluster described', () => withAdmin(async admin => {
  const topic = unique('admin')
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }], waitForLeaders: true }), true)
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), false, 'created twice')
  assert.ok((await admin.listTopics()).includes(topic))
  await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
  await eventually('it has four partitions', async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions.length === 4
  })
  const { brokers, controller, clusterId } = await admin.describeCluster()
  assert.equal(brokers.length, 1)
  assert.equal(controller, brokers[0].nodeId)
  assert.ok(clusterId)
  await admin.deleteTopics({ topics: [topic] })
  await eventually('it is gone', async () => !(await admin.listTopics()).includes(topic))
}))

shows('kafkajs', 'topic settings are described and altered', () => withAdmin(async admin => {
  const topic = unique('settings')
  await createTopic(topic, 1, [{ name: 'retention.ms', value: '123456789' }])
  const describe = async () => {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }]
    })
    return resources[0].configEntries[0]
  }
  await eventually('the setting is as created', async () => (await describe())?.configValue === '123456789')
  await admin.alterConfigs({
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: '987654321' }] }]
  })
  await eventually('the setting is as altered', async () => (await describe())?.configValue === '987654321')
  await assert.rejects(admin.alterConfigs({
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: 'retention.ms', value: 'soon' }] }]
  }), { type: 'INVALID_CONFIG' })
}))

shows('kafkajs', 'offsets by time, records deleted, group offsets set, reset and described', () => withAdmin(async admin => {
  const topic = unique('offsets')
  const groupId = unique('offsets')
  await createTopic(topic, 1)
  await produce(topic, Array.from({ length: 10 }, (_, n) => ({ value: String(n), timestamp: String(first + n * 1000) })))
  assert.deepEqual(await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: '10', high: '10', low: '0' }])
  assert.deepEqual(await admin.fetchTopicOffsetsByTimestamp(topic, first + 3_500), [{ partition: 0, offset: '4' }])
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '2' }] })
  assert.equal((await admin.fetchTopicOffsets(topic))[0].low, '2')
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '7' }] })
  const committed = async () => (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset
  assert.equal(await committed(), '7')
  await admin.resetOffsets({ groupId, topic, earliest: true })
  assert.ok(Number(await committed()) < 0, 'a reset group has no position')
  const consumer = kafka().consumer({ groupId, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const seen = []
  await consumer.run({ eachMessage: async ({ message }) => { seen.push(message.offset) } })
  await eventually('everything is read', () => seen.length >= 8)
  assert.equal(seen[0], '2')
  const { groups } = await admin.describeGroups([groupId])
  assert.equal(groups[0].state, 'Stable')
  assert.equal(groups[0].members.length, 1)
  assert.equal(groups[0].members[0].clientId, 'wiremill-clients')
  await assert.rejects(admin.deleteGroups([groupId]))
  await consumer.disconnect()
  await eventually('the group is empty', async () => (await admin.describeGroups([groupId])).groups[0].state === 'Empty')
  assert.equal(await committed(), '10')
  assert.ok((await admin.listGroups()).groups.some(group => group.groupId === groupId))
  await admin.deleteGroups([groupId])
  await eventually('the group is gone', async () => !(await admin.listGroups()).groups.some(group => group.groupId === groupId))
}))
