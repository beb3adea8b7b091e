// What this machine itself takes to bring a token's rows from one process to another, without minikeep: TCP alone, and
// TLS with certificates on both sides. Between two frames the sender reads through memory as an engine reads its
// weights, so that every byte of code runs as cold as it does behind a step. One way, on one clock.
import { fork } from 'node:child_process';
import net from 'node:net';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import { CertificateAuthority } from '../../packages/protocol/src/authority.ts';
import { spread } from './figures.mjs';

const FRAMES = 60;
/** The first ones find the code not compiled yet. */
const WARM = 15;
const WEIGHTS_BYTES = 64 * 1024 * 1024;
const PAUSE_MS = 2;
const LIMIT_MS = 30_000;
const THIS = fileURLToPath(import.meta.url);
const now = () => process.hrtime.bigint();

/** Milliseconds one way of frames of `bytes`, for each transport. */
export async function transportFloor(bytes) {
  return { tcp: await oneWay('tcp', bytes), mutual_tls: await oneWay('tls', bytes) };
}

async function oneWay(kind, bytes) {
  const authority = await CertificateAuthority.throwAway('bench', Date.now());
  const pems = async (name) => {
    const issued = await authority.issue('node', name);
    return {
      ca: authority.certificatePem,
      cert: issued.certificatePem,
      key: issued.privateKeyPem,
    };
  };
  const own = await pems('a');
  const receiver = fork(THIS, ['receive'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  let socket;
  try {
    const message = () =>
      new Promise((resolve, reject) => {
        const limit = setTimeout(() => reject(new Error('the receiver is silent')), LIMIT_MS);
        receiver.once('message', (value) => (clearTimeout(limit), resolve(value)));
        receiver.once('exit', () => reject(new Error('the receiver ended')));
      });
    receiver.send({ kind, bytes, pems: await pems('b') });
    const { port } = await message();
    socket =
      kind === 'tcp'
        ? net.connect(port, '127.0.0.1')
        : tls.connect({ port, host: '127.0.0.1', ...own, checkServerIdentity: () => undefined });
    await new Promise((resolve, reject) => {
      socket.once(kind === 'tcp' ? 'connect' : 'secureConnect', resolve).once('error', reject);
    });
    socket.setNoDelay(true);
    const done = message();
    const weights = Buffer.alloc(WEIGHTS_BYTES, 1);
    const copy = Buffer.alloc(WEIGHTS_BYTES);
    for (let i = 0; i < FRAMES; i++) {
      weights.copy(copy);
      const frame = Buffer.alloc(bytes);
      frame.writeBigUInt64LE(now(), 0);
      socket.write(frame);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    const { milliseconds } = await done;
    return spread(milliseconds.slice(WARM));
  } finally {
    socket?.destroy();
    receiver.kill('SIGKILL');
  }
}

/** The other process: says its port, takes the frames, says how old each one was. */
function receive() {
  process.once('disconnect', () => process.exit());
  process.once('message', ({ kind, bytes, pems }) => {
    const milliseconds = [];
    let held = Buffer.alloc(0);
    const take = (socket) =>
      socket.on('data', (data) => {
        const arrived = now();
        held = Buffer.concat([held, data]);
        for (; held.length >= bytes; held = held.subarray(bytes))
          milliseconds.push(Number(arrived - held.readBigUInt64LE(0)) / 1e6);
        if (milliseconds.length === FRAMES) process.send({ milliseconds });
      });
    const server =
      kind === 'tcp'
        ? net.createServer(take)
        : tls.createServer({ ...pems, requestCert: true, rejectUnauthorized: true }, take);
    server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
  });
}

if (process.argv[1] === THIS && process.argv[2] === 'receive') receive();
