/** Real TLS, real gRPC: who may call what, and what a stranger meets. */
import net from 'node:net';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../src/authority.ts';
import {
  ConnectionFault,
  accessInterceptor,
  connect,
  deadline,
  listen,
  makeServer,
  peerOf,
  type CredentialPems,
} from '../src/rpc-index.ts';
import { MinikeepError } from '../src/errors.ts';
import type { Identity, Role } from '../src/identity.ts';
import {
  AgentServiceDefinition,
  type AgentServiceImplementation,
  type UnloadRequest,
} from '../src/generated/v1.ts';
import type { CallContext } from 'nice-grpc-common';

const CLUSTER = 'test-cluster';
const NODE: Identity = { cluster: CLUSTER, role: 'node', name: 'n1' };

let authority: CertificateAuthority;
let port = 0;
const server = makeServer();
const seen: string[] = [];
const refused: string[] = [];

const implementation = new Proxy({} as AgentServiceImplementation, {
  get: (_, method) =>
    method === 'unload' ? unloadHandler : () => Promise.reject(new Error('not in this test')),
});

/** As long as can be, in every part of it. */
function longError(): MinikeepError {
  const long = '\u2028'.repeat(200_000);
  const details = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`d${i}`, long]));
  return new MinikeepError('test.long', long, { next: `Do ${long}`, details });
}

function unloadHandler(request: UnloadRequest, context: CallContext): Promise<object> {
  seen.push(`${peerOf(context).role} ${request.deployment}`);
  if (request.deployment === 'long') return Promise.reject(longError());
  if (request.deployment !== 'gone') return Promise.resolve({});
  return Promise.reject(
    new MinikeepError('deployment.unknown', 'no deployment "gone"', {
      next: 'Name another one.',
      exitCode: 2,
      details: { epoch: 3 },
    }),
  );
}

async function pems(role: Role, name: string, from = authority): Promise<CredentialPems> {
  const issued = await from.issue(role, name);
  return {
    authority: authority.certificatePem,
    certificate: issued.certificatePem,
    privateKey: issued.privateKeyPem,
  };
}

function unload(
  as: CredentialPems,
  whom: Identity = NODE,
  at = port,
  ms = 8_000,
): Promise<unknown> {
  const connection = connect(
    AgentServiceDefinition,
    `127.0.0.1:${at}`,
    as,
    whom,
    `node ${whom.name}`,
  );
  return connection.client
    .unload({ deployment: 'd' }, { signal: deadline(ms) })
    .finally(() => connection.close());
}

async function failure(call: Promise<unknown>): Promise<MinikeepError> {
  const thrown: unknown = await call.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(thrown).toBeInstanceOf(MinikeepError);
  return thrown as MinikeepError;
}

beforeAll(async () => {
  authority = await CertificateAuthority.throwAway(CLUSTER, Date.now());
  server.add(AgentServiceDefinition, implementation);
  ({ port } = await listen(server, '127.0.0.1:0', await pems('node', 'n1'), [
    accessInterceptor(
      CLUSTER,
      { 'minikeep.v1.AgentService': ['coordinator'] },
      { onRefused: (r) => refused.push(`${r.path} ${r.peer}`) },
    ),
  ]));
});
afterAll(() => server.forceShutdown());

describe('control of an agent', () => {
  it('is given to the coordinator', async () => {
    await unload(await pems('coordinator', 'main'));
    expect(seen).toContain('coordinator d');
  });

  for (const role of ['node', 'operator'] as const)
    it(`is refused to a certificate with the role ${role}`, async () => {
      const before = seen.length;
      const error = await failure(unload(await pems(role, 'x1')));
      expect(error.code).toBe('access.denied');
      expect(error.exitCode).toBe(5);
      expect(error.message).toContain(`minikeep://${CLUSTER}/${role}/x1`);
      expect(seen.length).toBe(before);
      expect(refused.at(-1)).toBe(
        `/minikeep.v1.AgentService/Unload minikeep://${CLUSTER}/${role}/x1`,
      );
    });

  // One machine's clock makes the certificates, another one's checks them.
  const HOUR_MS = 3_600_000;
  const YEAR_MS = 365 * 24 * HOUR_MS;
  const withClockAt = async (nowMs: number): Promise<unknown> => {
    const elsewhere = await CertificateAuthority.throwAway(CLUSTER, nowMs);
    const own = async (role: Role, name: string): Promise<CredentialPems> => {
      const issued = await elsewhere.issue(role, name);
      return {
        authority: elsewhere.certificatePem,
        certificate: issued.certificatePem,
        privateKey: issued.privateKeyPem,
      };
    };
    const there = makeServer();
    there.add(AgentServiceDefinition, implementation);
    const { port: at } = await listen(there, '127.0.0.1:0', await own('node', 'n1'), [
      accessInterceptor(CLUSTER, { 'minikeep.v1.AgentService': ['coordinator'] }),
    ]);
    return unload(await own('coordinator', 'main'), NODE, at).finally(() => there.forceShutdown());
  };

  it.each([HOUR_MS, -HOUR_MS, 40 * YEAR_MS, -40 * YEAR_MS])(
    'works with certificates of a clock that is %i ms off',
    async (offMs) => {
      await expect(withClockAt(Date.now() + offMs)).resolves.toEqual({});
    },
  );

  it('fails with certificates that are not valid now (or the test above shows nothing)', async () => {
    const early = await failure(withClockAt(Date.now() + 150 * YEAR_MS));
    expect(early).toMatchObject({ code: 'clock.skew', exitCode: 4 });
    expect(early.message).toMatch(/node n1 is not valid yet by this machine's clock, .* UTC/);
    const { notBefore, notAfter } = { notBefore: new Date(0), notAfter: new Date(1_000) };
    const own = await authority.issue('node', 'n1', { notBefore, notAfter });
    const there = makeServer();
    const ended = {
      ...(await pems('node', 'n1')),
      certificate: own.certificatePem,
      privateKey: own.privateKeyPem,
    };
    const { port: at } = await listen(there, '127.0.0.1:0', ended, []);
    const late = await failure(unload(await pems('coordinator', 'main'), NODE, at));
    there.forceShutdown();
    expect([late.code, late.next]).toEqual(['clock.skew', expect.stringContaining('sudo date')]);
    expect(late.next).toContain('minikeep invite');
  });

  it('is refused to the coordinator of another authority', async () => {
    const before = seen.length;
    const other = await CertificateAuthority.throwAway(CLUSTER, Date.now());
    const error = await failure(unload(await pems('coordinator', 'main', other)));
    expect(['node.unreachable', 'call.failed', 'node.connection_lost']).toContain(error.code);
    expect(seen.length).toBe(before);
  });

  it('is refused to the coordinator of another cluster, even under the same authority', async () => {
    const elsewhere = makeServer();
    elsewhere.add(AgentServiceDefinition, implementation);
    const { port: at } = await listen(elsewhere, '127.0.0.1:0', await pems('node', 'n1'), [
      accessInterceptor('another', { 'minikeep.v1.AgentService': ['coordinator'] }),
    ]);
    const error = await failure(unload(await pems('coordinator', 'main'), NODE, at));
    expect(error.code).toBe('access.denied');
    elsewhere.forceShutdown();
  });

  it('is refused without a client certificate, and below TLS 1.3', async () => {
    const attempt = (options: tls.ConnectionOptions): Promise<string> =>
      new Promise((resolve) => {
        const socket = tls.connect({
          host: '127.0.0.1',
          port,
          ca: authority.certificatePem,
          ALPNProtocols: ['h2'],
          checkServerIdentity: () => undefined,
          ...options,
        });
        // TLS 1.3 tells a client that its certificate was refused only after the handshake.
        socket.on('error', (e: NodeJS.ErrnoException) => resolve(e.code ?? e.message));
        socket.on('close', () => resolve('closed'));
        socket.on('data', () => {});
      });
    expect(await attempt({})).toMatch(/CERTIFICATE_REQUIRED|closed|ECONNRESET/);
    const mine = await pems('coordinator', 'main');
    expect(
      await attempt({ cert: mine.certificate, key: mine.privateKey, maxVersion: 'TLSv1.2' }),
    ).toMatch(/PROTOCOL_VERSION|ECONNRESET/);
  });

  it('lets go of a stranger who connects and says nothing', async () => {
    const stranger = net.connect(port, '127.0.0.1');
    stranger.on('error', () => {});
    const began = performance.now();
    await new Promise((resolve) => stranger.once('close', resolve));
    expect(performance.now() - began).toBeLessThan(15_000);
  }, 20_000);

  it('is not handed to a process with another identity than the expected one', async () => {
    const error = await failure(unload(await pems('coordinator', 'main'), { ...NODE, name: 'n2' }));
    expect(error.code).toBe('node.unreachable');
    expect(error.message).toContain(`expected minikeep://${CLUSTER}/node/n2`);
  });
});

describe('errors', () => {
  it('cross the connection with code, message, next step, exit code and details', async () => {
    const as = await pems('coordinator', 'main');
    const connection = connect(AgentServiceDefinition, `127.0.0.1:${port}`, as, NODE, 'node n1');
    const error = await failure(
      connection.client.unload({ deployment: 'gone' }, { signal: deadline(5_000) }),
    );
    connection.close();
    expect(error.toJSON()).toEqual({
      error: {
        code: 'deployment.unknown',
        message: 'no deployment "gone"',
        next: 'Name another one.',
        epoch: '3',
      },
    });
    expect(error.exitCode).toBe(2);
    // What a peer reports is no fault of the connection to it.
    expect(error).not.toBeInstanceOf(ConnectionFault);
  });

  it('cross it however long they are, cut', async () => {
    const as = await pems('coordinator', 'main');
    const connection = connect(AgentServiceDefinition, `127.0.0.1:${port}`, as, NODE, 'node n1');
    const error = await failure(
      connection.client.unload({ deployment: 'long' }, { signal: deadline(5_000) }),
    );
    connection.close();
    expect(error.code).toBe('test.long');
    expect(error.message.length).toBeGreaterThan(1_000);
    expect(error.next).toMatch(/^Do /);
  });

  it('say that nobody is there', async () => {
    const free = net.createServer().listen(0, '127.0.0.1');
    await new Promise((r) => free.once('listening', r));
    const { port: unused } = free.address() as net.AddressInfo;
    await new Promise((r) => free.close(r));
    const error = await failure(unload(await pems('coordinator', 'main'), NODE, unused));
    expect(error.code).toBe('node.unreachable');
    expect(error.exitCode).toBe(4);
    expect(error).toBeInstanceOf(ConnectionFault);
    expect(error).toHaveProperty('reached', false);
  });

  it('end a call to a peer that accepts the connection and then says nothing', async () => {
    const silent = net.createServer(() => {}).listen(0, '127.0.0.1');
    await new Promise((r) => silent.once('listening', r));
    const { port: at } = silent.address() as net.AddressInfo;
    const started = performance.now();
    const error = await failure(unload(await pems('coordinator', 'main'), NODE, at, 20_000));
    expect(error.code).toBe('node.unreachable');
    // By the limit of the connection, not by the call's own deadline.
    expect(performance.now() - started).toBeLessThan(9_000);
    silent.close();
  });

  it('name a port that is taken', async () => {
    const second = makeServer();
    second.add(AgentServiceDefinition, implementation);
    const error = await failure(listen(second, `127.0.0.1:${port}`, await pems('node', 'n3'), []));
    expect(error.code).toBe('listen.port_in_use');
  });
});
