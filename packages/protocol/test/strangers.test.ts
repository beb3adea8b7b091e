/** Real sockets: idle strangers are few and short-lived, and shut no member out. */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CertificateAuthority } from '../src/authority.ts';
import { AgentServiceDefinition, type AgentServiceImplementation } from '../src/generated/v1.ts';
import { accessInterceptor, connect, deadline, listen, makeServer } from '../src/rpc-index.ts';
import { UNPROVEN_OF_HOST_MAX, Unproven, unproven } from '../src/strangers.ts';

const CLUSTER = 'test-cluster';
const DEADLINE_MS = 20_000;
const server = makeServer();
let authority: CertificateAuthority;
let port = 0;

async function pems(role: 'node' | 'coordinator', name: string) {
  const { certificatePem, privateKeyPem } = await authority.issue(role, name);
  const { certificatePem: own } = authority;
  return { authority: own, certificate: certificatePem, privateKey: privateKeyPem };
}

beforeAll(async () => {
  ({ authority } = await CertificateAuthority.create(CLUSTER, Date.now()));
  const service = { unload: async () => ({}) } as unknown as AgentServiceImplementation;
  server.add(
    AgentServiceDefinition,
    new Proxy(service, { get: (target, name) => Reflect.get(target, name) ?? (() => {}) }),
  );
  const access = accessInterceptor(CLUSTER, { 'minikeep.v1.AgentService': ['coordinator'] });
  ({ port } = await listen(server, '127.0.0.1:0', await pems('node', 'n1'), [access]));
});
afterAll(() => server.forceShutdown());

async function until(holds: () => boolean): Promise<void> {
  const deadlineAt = Date.now() + DEADLINE_MS;
  while (!holds()) {
    if (Date.now() > deadlineAt) throw new Error('it never came so far');
    await sleep(10);
  }
}

it('of many idle connections the oldest go, members are served, and keep their connection', async () => {
  const identity = { cluster: CLUSTER, role: 'node', name: 'n1' } as const;
  const member = connect(
    AgentServiceDefinition,
    `127.0.0.1:${port}`,
    await pems('coordinator', 'c'),
    identity,
    'the node',
  );
  const call = () => member.client.unload({}, { signal: deadline(DEADLINE_MS) });
  await call();
  await until(() => unproven.count === 0);
  const idle: net.Socket[] = [];
  let closed = 0;
  for (let i = 0; i < 2 * UNPROVEN_OF_HOST_MAX; i++) {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.once('close', () => (closed += 1));
    idle.push(socket);
    await once(socket, 'connect');
  }
  await until(() => closed === UNPROVEN_OF_HOST_MAX);
  expect(unproven.count).toBe(UNPROVEN_OF_HOST_MAX);
  expect(idle.slice(0, UNPROVEN_OF_HOST_MAX).every((socket) => socket.destroyed)).toBe(true);
  // The connection from before lives, and a new one gets through.
  await call();
  const another = connect(
    AgentServiceDefinition,
    `127.0.0.1:${port}`,
    await pems('coordinator', 'c'),
    identity,
    'the node',
  );
  await another.client.unload({}, { signal: deadline(DEADLINE_MS) });
  another.close();
  member.close();
  for (const socket of idle) socket.destroy();
  await until(() => unproven.count === 0);
});

it('a connection that proves nothing ends by itself, one that did stays', async () => {
  const few = new Unproven({ total: 10, ofHost: 10, ms: 300 });
  const plain = net.createServer((socket) => {
    socket.on('error', () => {});
    few.add(socket);
  });
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  const { port: at } = plain.address() as AddressInfo;
  const [honest, idle] = [net.connect(at, '127.0.0.1'), net.connect(at, '127.0.0.1')];
  await Promise.all([once(honest, 'connect'), once(idle, 'connect')]);
  await until(() => few.count === 2);
  few.proven(`127.0.0.1:${honest.localPort}`);
  await once(idle.resume(), 'close');
  await sleep(300);
  expect(honest.destroyed).toBe(false);
  honest.destroy();
  plain.close();
});
