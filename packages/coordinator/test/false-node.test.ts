/** A node that was taken over, with a certificate that is right: what it says over real gRPC is not believed further than it may be. */
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { accessInterceptor, listen, makeServer, type CredentialPems } from '@minikeep/protocol/rpc';
import { PROTOCOL_VERSION, type Identity } from '@minikeep/protocol';
import {
  AgentServiceDefinition,
  HelloResponse,
  Violation,
  type AgentServiceImplementation,
  type WatchResponse,
} from '@minikeep/protocol/v1';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { Cluster } from '../src/cluster.ts';

const CLUSTER = 'test-cluster';

/** Says what the test wants it to, then beats its heart until it is ended. */
function agent(events: readonly NonNullable<WatchResponse['event']>[]): AgentServiceImplementation {
  const heartbeat = { sequence: 1, rssBytes: 1, memoryAvailableBytes: 1 };
  const methods: Partial<AgentServiceImplementation> = {
    hello: () =>
      Promise.resolve(HelloResponse.create({ protocolVersion: PROTOCOL_VERSION, node: 'n1' })),
    async *watch(_, { signal }) {
      for (const event of events) yield { event };
      yield { event: { $case: 'heartbeat', value: heartbeat } };
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    },
  };
  return new Proxy(methods as AgentServiceImplementation, {
    get: (_, method) =>
      Reflect.get(methods, method) ?? (() => Promise.reject(new Error('not in this test'))),
  });
}

it('can accuse no other node, and its words are cut', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-false-node-'));
  const authority = await CertificateAuthority.throwAway(CLUSTER, Date.now());
  const pems = async (role: Identity['role'], name: string): Promise<CredentialPems> => {
    const issued = await authority.issue(role, name);
    return {
      authority: authority.certificatePem,
      certificate: issued.certificatePem,
      privateKey: issued.privateKeyPem,
    };
  };
  const server = makeServer();
  const long = 'x'.repeat(1_000_000);
  const value = Violation.create({
    node: 'n2',
    operation: 'connect',
    target: long,
    instance: long,
    seenBy: Array.from({ length: 1_000 }, () => long.slice(0, 2_000)),
    count: 3,
  });
  server.add(AgentServiceDefinition, agent([{ $case: 'violation', value }]));
  const rules = { 'minikeep.v1.AgentService': ['coordinator'] } as const;
  const { port } = await listen(server, '127.0.0.1:0', await pems('node', 'n1'), [
    accessInterceptor(CLUSTER, rules),
  ]);
  const cluster = new Cluster({
    cluster: CLUSTER,
    identity: { cluster: CLUSTER, role: 'coordinator', name: 'main' },
    version: '0',
    nodes: [{ name: 'n1', addresses: [`127.0.0.1:${port}`] }],
    credentials: await pems('coordinator', 'main'),
    cacheFolder: folder,
    addressesFor: () => [''],
    seal: { connectList: { state: 3, why: '' }, proofWanted: false, keep: () => {} },
  });
  try {
    await cluster.status();
    expect([cluster.violations.totalOf('n1'), cluster.violations.totalOf('n2')]).toEqual([3, 0]);
    for await (const { violation } of cluster.violations.stream(
      false,
      new AbortController().signal,
    )) {
      expect(violation).toMatchObject({ node: 'n1', operation: 'connect', count: 3 });
      expect(JSON.stringify(violation).length).toBeLessThan(30_000);
    }
  } finally {
    await cluster.close();
    server.forceShutdown();
    rmSync(folder, { recursive: true });
  }
});
