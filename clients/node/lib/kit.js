// What the suites share: where the broker is, names that collide with nobody's, and the result line
// that each test leaves for the compatibility page.
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

// Far above what a loaded machine needs, far below the limit of the suite.
export const PATIENCE_MS = 120_000

export function need (name) {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: run this suite through \`cargo xtask test --only node\``)
  return value
}

let names = 0
export function unique (prefix) {
  return `${prefix}-${process.pid}-${Date.now()}-${++names}`
}

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

// Waits until `holds` is true, asking again and again.
export async function eventually (what, holds, limitMs = 60_000) {
  for (const deadline = Date.now() + limitMs; !(await holds()); await sleep(20)) {
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms in vain: ${what}`)
  }
}

// What each client speaks: the section of the page that its results go to.
const PROTOCOLS = { kafkajs: 'Kafka', '@aws-sdk/client-sqs': 'SQS', 'sqs-consumer': 'SQS', '@nats-io/transport-node': 'NATS', '@nats-io/jetstream': 'NATS', '@nats-io/kv': 'NATS', '@nats-io/obj': 'NATS', nats: 'NATS', amqplib: 'AMQP' }

const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'))

// A test that shows `capability` with the package `client`, and says so in a result line.
export function shows (client, capability, body) {
  test(`${client}: ${capability}`, { timeout: PATIENCE_MS }, async t => {
    let result
    const end = how => {
      if (result) return
      result = how
      record({ protocol: PROTOCOLS[client], capability, client, version: lock.packages[`node_modules/${client}`].version, result })
    }
    // When its time is over nobody waits for the body any more.
    t.signal.addEventListener('abort', () => end('failed'))
    try {
      await body(t)
      end('passed')
    } finally {
      end('failed')
    }
  })
}

function record (line) {
  const folder = process.env.WIREMILL_RESULTS
  if (folder) appendFileSync(join(folder, `node-${process.pid}.jsonl`), JSON.stringify(line) + '\n')
}
