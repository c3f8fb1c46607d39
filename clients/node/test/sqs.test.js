// What the SDK for JavaScript sees: told by AWS_ENDPOINT_URL alone where to go, it follows the queue's URL,
// and checks the digest of every body.
import assert from 'node:assert/strict'
import { shows as showsWith, unique } from '../lib/kit.js'
import { SQSClient, arn, call, counts, newQueue, settled, sqs, take } from '../lib/sqs.js'

const shows = (capability, body) => showsWith('@aws-sdk/client-sqs', capability, body)

// The error that an operation ends with.
async function refusal (operation, input) {
  try {
    await call(operation, input)
  } catch (error) {
    return error
  }
  assert.fail(`${operation} succeeded`)
}

shows('a queue\'s URL names the address that was called, and is followed', async () => {
  const queue = await newQueue('follow')
  assert.equal(new URL(queue).origin, process.env.AWS_ENDPOINT_URL)
  assert.equal((await call('GetQueueUrl', { QueueName: queue.split('/').at(-1) })).QueueUrl, queue)
  // By another name of the same host.
  const elsewhere = new SQSClient({ endpoint: process.env.AWS_ENDPOINT_URL.replace('127.0.0.1', 'localhost') })
  const found = await call('GetQueueUrl', { QueueName: queue.split('/').at(-1) }, elsewhere)
  assert.equal(new URL(found.QueueUrl).hostname, 'localhost')
  await call('SendMessage', { QueueUrl: queue, MessageBody: 'through the other name' }, elsewhere)
  const [message] = await take(queue, 1)
  assert.equal(message.Body, 'through the other name')
})

shows('a message comes back as it was sent: body, typed and binary attributes, digests that the client checks', async () => {
  const queue = await newQueue('round')
  const MessageAttributes = {
    text: { DataType: 'String', StringValue: 'grün <&> "so"' },
    number: { DataType: 'Number', StringValue: '3.14' },
    bytes: { DataType: 'Binary', BinaryValue: Uint8Array.from([0, 1, 254, 255]) }
  }
  const body = 'päivää, 世界 𝄞\r\n\tend'
  const sent = await call('SendMessage', { QueueUrl: queue, MessageBody: body, MessageAttributes })
  const [message] = await take(queue, 1)
  assert.equal(message.MessageId, sent.MessageId)
  assert.equal(message.Body, body)
  assert.equal(message.MD5OfMessageAttributes, sent.MD5OfMessageAttributes)
  for (const [name, value] of Object.entries(MessageAttributes)) {
    const { DataType, StringValue, BinaryValue } = message.MessageAttributes[name]
    assert.deepEqual({ DataType, StringValue, BinaryValue: BinaryValue && [...BinaryValue] },
      { DataType: value.DataType, StringValue: value.StringValue, BinaryValue: value.BinaryValue && [...value.BinaryValue] })
  }
  await call('DeleteMessage', { QueueUrl: queue, ReceiptHandle: message.ReceiptHandle })
  await settled(queue)
})

shows('in a batch each entry succeeds or fails by itself', async () => {
  const queue = await newQueue('batch', { MaximumMessageSize: '1024' })
  const answer = await call('SendMessageBatch', {
    QueueUrl: queue,
    Entries: [{ Id: 'good', MessageBody: 'x' }, { Id: 'big', MessageBody: 'x'.repeat(1025) }, { Id: 'also', MessageBody: 'ü' }]
  })
  assert.deepEqual(answer.Successful.map(entry => entry.Id), ['good', 'also'])
  const [{ Id, Code, SenderFault }] = answer.Failed
  assert.deepEqual({ Id, Code, SenderFault }, { Id: 'big', Code: 'InvalidParameterValue', SenderFault: true })
  const messages = await take(queue, 2)
  await call('ChangeMessageVisibilityBatch', {
    QueueUrl: queue, Entries: messages.map(({ ReceiptHandle }, n) => ({ Id: String(n), ReceiptHandle, VisibilityTimeout: 0 }))
  })
  const again = await take(queue, 2)
  assert.deepEqual(again.map(message => message.Attributes.ApproximateReceiveCount), ['2', '2'])
  await call('DeleteMessageBatch', { QueueUrl: queue, Entries: again.map(({ ReceiptHandle }, n) => ({ Id: String(n), ReceiptHandle })) })
  await settled(queue)
})

shows('a long poll is woken by a message', async () => {
  const queue = await newQueue('wake')
  const began = Date.now()
  const poll = call('ReceiveMessage', { QueueUrl: queue, WaitTimeSeconds: 20 })
  await call('SendMessage', { QueueUrl: queue, MessageBody: 'wake up' })
  const { Messages: [message] } = await poll
  assert.equal(message.Body, 'wake up')
  assert.ok(Date.now() - began < 15_000)
})

shows('an empty receive has no messages', async () => {
  assert.equal((await call('ReceiveMessage', { QueueUrl: await newQueue('empty') })).Messages, undefined)
})

shows('errors have their classes, AWS\'s codes and texts', async () => {
  const queue = await newQueue('errors')
  const missing = await refusal('SendMessage', { QueueUrl: `${queue}-missing`, MessageBody: 'x' })
  assert.equal(missing.name, 'QueueDoesNotExist')
  assert.equal(missing.message, 'The specified queue does not exist.')
  assert.equal(missing.Code ?? missing.Error?.Code, 'AWS.SimpleQueueService.NonExistentQueue')
  assert.equal(missing.$metadata.httpStatusCode, 400)
  assert.ok(missing.$metadata.requestId)
  for (const [operation, input, name] of [
    ['GetQueueUrl', { QueueName: unique('missing') }, 'QueueDoesNotExist'],
    ['DeleteMessage', { QueueUrl: queue, ReceiptHandle: 'garbage' }, 'ReceiptHandleIsInvalid'],
    ['SendMessage', { QueueUrl: queue, MessageBody: '\u0001' }, 'InvalidMessageContents'],
    ['SendMessageBatch', { QueueUrl: queue, Entries: [] }, 'EmptyBatchRequest'],
    ['CreateQueue', { QueueName: queue.split('/').at(-1), Attributes: { DelaySeconds: '5' } }, 'QueueNameExists'],
    ['GetQueueAttributes', { QueueUrl: queue, AttributeNames: ['Wingspan'] }, 'InvalidAttributeName']
  ]) {
    const error = await refusal(operation, input)
    assert.equal(error.name, name, `${operation}: ${error}`)
  }
  const many = await refusal('ReceiveMessage', { QueueUrl: queue, MaxNumberOfMessages: 11 })
  assert.match(many.name, /^InvalidParameterValue/)
  assert.equal(many.message, 'Value 11 for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.')
})

shows('FIFO: order by group, and repeats stored once', async () => {
  const queue = await newQueue('fifo', { FifoQueue: 'true', ContentBasedDeduplication: 'true' })
  for (const body of ['1', '2', '2', '3']) {
    for (const group of ['a', 'b']) await call('SendMessage', { QueueUrl: queue, MessageBody: `${group}${body}`, MessageGroupId: group })
  }
  assert.deepEqual(await counts(queue), [6, 0, 0])
  const messages = await take(queue, 6)
  for (const group of ['a', 'b']) {
    const bodies = messages.filter(message => message.Attributes.MessageGroupId === group).map(message => message.Body)
    assert.deepEqual(bodies, [`${group}1`, `${group}2`, `${group}3`])
  }
})

shows('dead letters after n attempts', async () => {
  const dead = await newQueue('dead')
  const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: await arn(dead), maxReceiveCount: '1' })
  const queue = await newQueue('work', { RedrivePolicy, VisibilityTimeout: '0' })
  await call('SendMessage', { QueueUrl: queue, MessageBody: 'poison' })
  await take(queue, 1)
  await call('ReceiveMessage', { QueueUrl: queue })
  const [message] = await take(dead, 1)
  assert.equal(message.Body, 'poison')
  assert.equal(message.Attributes.DeadLetterQueueSourceArn, await arn(queue))
})

shows('a client that is destroyed and one that gives up leave nothing behind', async () => {
  const queue = await newQueue('abort')
  const controller = new AbortController()
  const poll = sqs.send(new (await import('@aws-sdk/client-sqs')).ReceiveMessageCommand({ QueueUrl: queue, WaitTimeSeconds: 20 }), { abortSignal: controller.signal })
  setTimeout(() => controller.abort(), 100)
  await assert.rejects(poll, { name: 'AbortError' })
  await call('SendMessage', { QueueUrl: queue, MessageBody: 'x' })
  const [message] = await take(queue, 1)
  assert.equal(message.Attributes.ApproximateReceiveCount, '1')
})
