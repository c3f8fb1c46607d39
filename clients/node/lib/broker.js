// A broker that a test owns, with a certificate of its own where it wants TLS.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, need } from './kit.js'

const USED = ['kafka', 'nats', 'admin']
const UNUSED = ['amqp', 'aws', 'redis', 'pulsar', 'registry', 'rabbitmq-admin', 'pulsar-admin']

// A certificate for 127.0.0.1 that signs itself.
function makeCertificate (folder) {
  const files = { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') }
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-keyout', files.key, '-out', files.certificate
  ], { stdio: 'ignore' })
  return files
}

class Broker {
  constructor (folder) {
    Object.assign(this, { folder, extra: [] })
    for (const name of USED) this[name] = '127.0.0.1:0'
  }

  // Has the listener speak TLS, with a certificate that is made here.
  secure (listener) {
    const files = makeCertificate(this.folder)
    this.extra = ['--tls-cert', `${listener}=${files.certificate}`, '--tls-key', `${listener}=${files.key}`]
    this.ca = readFileSync(files.certificate, 'utf8')
  }

  // Runs the binary and waits until it is ready; the addresses are the same after every start.
  async start () {
    const ready = join(this.folder, 'ready.json')
    const log = join(this.folder, 'broker.log')
    const output = openSync(log, 'a')
    rmSync(ready, { force: true })
    const process = spawn(need('WIREMILL_BIN'), [
      'serve', '--data-dir', join(this.folder, 'data'), '--ready-file', ready,
      ...USED.flatMap(name => ['--listen', `${name}=${this[name]}`]),
      ...UNUSED.flatMap(name => ['--listen', `${name}=off`]),
      '--kafka-initial-rebalance-delay-ms', '0', ...this.extra
    ], { stdio: ['ignore', output, output] })
    this.process = process
    this.ended = new Promise(resolve => process.once('exit', resolve))
    await eventually('the broker is ready', () => {
      if (process.exitCode !== null) throw new Error(`the broker ended before it was ready: ${readFileSync(log, 'utf8')}`)
      return existsSync(ready)
    })
    Object.assign(this, JSON.parse(readFileSync(ready, 'utf8')))
  }

  async kill () {
    if (!this.process) return
    this.process.kill('SIGKILL')
    await this.ended
  }

  async restart () {
    await this.kill()
    await this.start()
  }

  addUser (name, password, ...more) {
    execFileSync(need('WIREMILL_BIN'), ['user', 'add', name, '--password', password, '--admin', `http://${this.admin}`, ...more], { stdio: 'ignore' })
  }
}

// Runs `body` with a broker of its own; `tls` names the listener that has TLS.
export async function withBroker (body, { tls } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'wiremill-'))
  const broker = new Broker(folder)
  try {
    if (tls) broker.secure(tls)
    await broker.start()
    await body(broker)
  } finally {
    await broker.kill()
    rmSync(folder, { recursive: true })
  }
}

// One with TLS on its Kafka listener.
export const withTlsBroker = body => withBroker(body, { tls: 'kafka' })
