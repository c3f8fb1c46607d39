// SQS as applications set it up when nothing but their environment says where it is.
import { need, eventually, unique } from './kit.js'

process.env.AWS_ENDPOINT_URL = `http://${need('WIREMILL_AWS')}`
process.env.AWS_REGION = 'us-east-1'
process.env.AWS_ACCESS_KEY_ID = 'test'
process.env.AWS_SECRET_ACCESS_KEY = 'test'

export const { SQSClient, ...aws } = await import('@aws-sdk/client-sqs')

export const sqs = new SQSClient()

// The operation by its name: `call('SendMessage', { … })`.
export const call = (operation, input, client = sqs) => client.send(new aws[`${operation}Command`](input))

export async function newQueue (prefix, Attributes = {}) {
  const QueueName = unique(prefix) + (Attributes.FifoQueue ? '.fifo' : '')
  const { QueueUrl } = await call('CreateQueue', { QueueName, Attributes })
  return QueueUrl
}

export async function arn (QueueUrl) {
  const { Attributes } = await call('GetQueueAttributes', { QueueUrl, AttributeNames: ['QueueArn'] })
  return Attributes.QueueArn
}

// Messages that are visible, in flight and delayed.
export async function counts (QueueUrl) {
  const names = ['', 'NotVisible', 'Delayed'].map(name => `ApproximateNumberOfMessages${name}`)
  const { Attributes } = await call('GetQueueAttributes', { QueueUrl, AttributeNames: names })
  return names.map(name => Number(Attributes[name]))
}

export const settled = queue => eventually('the queue is empty', async () => (await counts(queue)).every(count => count === 0))

// Receives until `count` messages have come.
export async function take (QueueUrl, count, options = {}) {
  const messages = []
  await eventually(`${count} messages come`, async () => {
    const { Messages = [] } = await call('ReceiveMessage', {
      QueueUrl, MaxNumberOfMessages: Math.min(10, count - messages.length), WaitTimeSeconds: 5,
      MessageSystemAttributeNames: ['All'], MessageAttributeNames: ['All'], ...options
    })
    messages.push(...Messages)
    return messages.length >= count
  })
  return messages
}
