// Workers written with sqs-consumer, as its documentation shows them.
import assert from 'node:assert/strict'
import { Consumer } from 'sqs-consumer'
import { eventually, shows as showsWith, sleep } from '../lib/kit.js'
import { arn, call, newQueue, settled, sqs, take } from '../lib/sqs.js'

const shows = (capability, body) => showsWith('sqs-consumer', capability, body)

// A started consumer; what it reports as an error is gathered.
function consume (queueUrl, options) {
  const errors = []
  const consumer = Consumer.create({
    queueUrl, sqs, batchSize: 10, waitTimeSeconds: 5, messageSystemAttributeNames: ['All'], messageAttributeNames: ['All'], ...options
  })
  for (const event of ['error', 'timeout_error']) consumer.on(event, error => errors.push(error))
  consumer.on('processing_error', () => {})
  consumer.start()
  return { consumer, errors }
}

async function stop (consumer) {
  consumer.stop()
  await eventually('the consumer has stopped', () => !consumer.status.isRunning && !consumer.status.isPolling)
}

const send = (QueueUrl, ...bodies) => Promise.all(bodies.map(MessageBody => call('SendMessage', { QueueUrl, MessageBody })))

shows('a handler that throws now and then: what failed comes again, what was done is deleted', async () => {
  const queue = await newQueue('work', { VisibilityTimeout: '1' })
  const attempts = new Map()
  const { consumer, errors } = consume(queue, {
    handleMessage: async message => {
      attempts.set(message.Body, (attempts.get(message.Body) ?? 0) + 1)
      if (message.Body.startsWith('flaky') && attempts.get(message.Body) === 1) throw new Error('the database is away')
      return message
    }
  })
  await send(queue, 'flaky-1', 'flaky-2', ...Array.from({ length: 20 }, (_, n) => `sound-${n}`))
  await settled(queue)
  await stop(consumer)
  assert.deepEqual(errors, [])
  assert.equal(attempts.size, 22)
  assert.ok(attempts.get('flaky-1') >= 2 && attempts.get('flaky-2') >= 2)
})

shows('a failed message is given back at once when the consumer is set so', async () => {
  const queue = await newQueue('work', { VisibilityTimeout: '600' })
  const counts = []
  const { consumer } = consume(queue, {
    terminateVisibilityTimeout: true,
    handleMessage: async message => {
      counts.push(message.Attributes.ApproximateReceiveCount)
      if (counts.length < 3) throw new Error('not yet')
      return message
    }
  })
  await send(queue, 'x')
  await settled(queue)
  await stop(consumer)
  assert.deepEqual(counts, ['1', '2', '3'])
})

shows('a heartbeat keeps a message whose work outlasts its visibility timeout', async () => {
  const queue = await newQueue('work', { VisibilityTimeout: '3' })
  let calls = 0
  const { consumer, errors } = consume(queue, {
    visibilityTimeout: 3,
    heartbeatInterval: 1,
    handleMessage: async message => {
      calls++
      await sleep(5_500)
      return message
    }
  })
  await send(queue, 'long')
  await settled(queue)
  await stop(consumer)
  assert.deepEqual(errors, [])
  assert.equal(calls, 1)
})

shows('batches: those that the handler returns are deleted, the others end as dead letters', async () => {
  const dead = await newQueue('dead')
  const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: await arn(dead), maxReceiveCount: 2 })
  const queue = await newQueue('work', { VisibilityTimeout: '1', RedrivePolicy })
  const { consumer } = consume(queue, {
    handleMessageBatch: async messages => messages.filter(message => !message.Body.startsWith('poison'))
  })
  await send(queue, 'poison-1', 'poison-2', ...Array.from({ length: 10 }, (_, n) => `sound-${n}`))
  const letters = await take(dead, 2)
  await settled(queue)
  await stop(consumer)
  assert.deepEqual(letters.map(message => message.Body).sort(), ['poison-1', 'poison-2'])
})

shows('stopped in the middle of the work: what is in hand is finished, nothing is lost or repeated', async () => {
  const queue = await newQueue('work', { VisibilityTimeout: '120' })
  const done = []
  const options = {
    waitTimeSeconds: 1,
    pollingCompleteWaitTimeMs: 30_000,
    handleMessage: async message => {
      await sleep(5)
      done.push(message.Body)
      return message
    }
  }
  const wanted = Array.from({ length: 100 }, (_, n) => `m${n}`)
  await send(queue, ...wanted)
  for (let round = 0; round < 3; round++) {
    const { consumer } = consume(queue, options)
    const floor = done.length
    await eventually('some are done', () => done.length > floor + 10 || done.length >= 80)
    await stop(consumer)
  }
  const { consumer } = consume(queue, options)
  await settled(queue)
  await stop(consumer)
  assert.deepEqual(done.toSorted(), wanted.toSorted())
})
