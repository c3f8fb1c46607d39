// The client as applications set it up, and a socket that can be cut.
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import kafkajs from 'kafkajs'
import { need } from './kit.js'

export const { CompressionTypes, ConfigResourceTypes, Kafka, Partitioners, logLevel } = kafkajs

export function kafka (options = {}) {
  return new Kafka({ clientId: 'wiremill-clients', brokers: [need('WIREMILL_KAFKA')], logLevel: logLevel.NOTHING, ...options })
}

// A socket factory whose next answer from the broker can be cut off: the request has arrived, and the
// client never learns what became of it.
export function cuttable () {
  const state = { armed: false, cuts: 0 }
  const socketFactory = ({ host, port, ssl, onConnect }) => {
    const socket = ssl
      ? connectTls({ host, port, ...ssl }, onConnect)
      : connect({ host, port }, onConnect)
    const emit = socket.emit.bind(socket)
    socket.emit = (event, ...args) => {
      if (event === 'data' && state.armed) {
        state.armed = false
        state.cuts++
        socket.destroy(new Error('the network ate the answer'))
        return true
      }
      return emit(event, ...args)
    }
    return socket
  }
  return { state, socketFactory }
}

export async function createTopic (topic, numPartitions, configEntries = [], options = {}) {
  const admin = kafka(options).admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }], waitForLeaders: true })
  await admin.disconnect()
}

// Everything in `topic`, read without a group's history, until `count` messages have come.
export async function readAll (topic, count, options = {}) {
  const consumer = kafka(options).consumer({ groupId: `read-${topic}-${Math.random()}`, maxWaitTimeInMs: 100 })
  const messages = []
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
    consumer.run({
      eachMessage: async ({ partition, message }) => {
        messages.push({ partition, ...message })
        if (messages.length === count) resolve()
      }
    }).catch(reject)
  })
  await consumer.disconnect()
  return messages
}
