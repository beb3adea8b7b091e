/** A machine that takes connections and never answers: nobody waits for it without end, and it is named. */
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { DeployRequest } from '@minikeep/protocol/v1';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { Cluster } from '../src/cluster.ts';
import { deploy } from '../src/deploy.ts';

const CLUSTER = 'test-cluster';

it('is left out of an up, which says why', { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-silent-node-'));
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.resume();
  });
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const { port } = silent.address() as AddressInfo;
  const authority = await CertificateAuthority.throwAway(CLUSTER, Date.now());
  const issued = await authority.issue('coordinator', 'main');
  const cluster = new Cluster({
    cluster: CLUSTER,
    identity: { cluster: CLUSTER, role: 'coordinator', name: 'main' },
    version: '0',
    nodes: [{ name: 'mute', addresses: [`127.0.0.1:${port}`] }],
    credentials: {
      authority: authority.certificatePem,
      certificate: issued.certificatePem,
      privateKey: issued.privateKeyPem,
    },
    cacheFolder: folder,
    addressesFor: () => [''],
    seal: { connectList: { state: 3, why: '' }, proofWanted: false, keep: () => {} },
  });
  try {
    const request = DeployRequest.create({ name: 'x', modelPath: '/nowhere.gguf', keep: true });
    const up = (async () => {
      for await (const _ of deploy(cluster, request, new AbortController().signal));
    })();
    await expect(up).rejects.toMatchObject({ code: 'deploy.no_nodes', exitCode: 4 });
    await expect(up).rejects.toThrow('no node can take layers: mute (');
    expect(cluster.reconciler.keeps('x')).toBe(false);
    const [node] = (await cluster.status()).nodes;
    expect(node).toMatchObject({ reachable: false, error: { code: 'node.unreachable' } });
  } finally {
    await cluster.close();
    for (const socket of sockets) socket.destroy();
    silent.close();
    rmSync(folder, { recursive: true });
  }
});
