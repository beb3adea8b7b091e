/** Which way is the best: measured over real connections, one of them slow by a proxy, and cut. */
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { identityUri, type Identity } from '@minikeep/protocol';
import {
  accessInterceptor,
  linkService,
  listen,
  makeServer,
  type CredentialPems,
} from '@minikeep/protocol/rpc';
import { LinkServiceDefinition } from '@minikeep/protocol/v1';
import { FaultyProxy } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Links } from '../src/links.ts';

const PEER: Identity = { cluster: 'links', role: 'node', name: 'b' };
const NAME = identityUri(PEER);
const WAIT = { timeout: 30_000 };
/** Each way: more than any pause of a busy machine makes of the other one. */
const DELAY_MS = 150;

const server = makeServer();
let fast: FaultyProxy;
let slow: FaultyProxy;
let credentials: CredentialPems;

async function pems(authority: CertificateAuthority, name: string): Promise<CredentialPems> {
  const issued = await authority.issue('node', name);
  return {
    authority: authority.certificatePem,
    certificate: issued.certificatePem,
    privateKey: issued.privateKeyPem,
  };
}

beforeAll(async () => {
  const authority = await CertificateAuthority.throwAway('links', Date.now());
  server.add(LinkServiceDefinition, linkService);
  const { port } = await listen(server, '127.0.0.1:0', await pems(authority, 'b'), [
    accessInterceptor('links', { 'minikeep.v1.LinkService': ['node'] }),
  ]);
  credentials = await pems(authority, 'a');
  fast = await FaultyProxy.start(`127.0.0.1:${port}`);
  slow = await FaultyProxy.start(`127.0.0.1:${port}`);
  slow.set({ delayMs: DELAY_MS });
});
afterAll(async () => {
  await fast.close();
  await slow.close();
  server.forceShutdown();
});

describe('the ways to a neighbour', () => {
  it('are measured: the fast one first, the other when that is cut, and back when it is there again', async () => {
    let better = 0;
    const links = new Links({ credentials, againMs: 200, onBetter: () => (better += 1) });
    try {
      links.learn(NAME, [slow.address, fast.address]);
      // Before anything is known, as they were given.
      expect(links.waysTo(NAME)).toEqual([slow.address, fast.address]);
      links.uses(NAME, slow.address);
      await expect.poll(() => links.waysTo(NAME), WAIT).toEqual([fast.address, slow.address]);
      await expect.poll(() => better, WAIT).toBeGreaterThan(0);
      links.uses(NAME, fast.address);
      const [first, second] = links.states();
      expect(first).toMatchObject({ peer: 'b', address: slow.address, up: true, inUse: false });
      expect(first?.latencySeconds).toBeGreaterThanOrEqual((2 * DELAY_MS * 0.9) / 1000);
      expect(second).toMatchObject({
        address: fast.address,
        interface: expect.stringMatching(/^lo/) as string,
        inUse: true,
      });
      expect(second?.bytesPerSecond).toBeGreaterThan(0);

      fast.set({ cutAfterBytes: 0 });
      links.uses(NAME, undefined);
      expect(links.waysTo(NAME)).toEqual([slow.address, fast.address]);
      links.uses(NAME, slow.address);
      const before = better;
      fast.set({});
      await expect.poll(() => links.waysTo(NAME)[0], WAIT).toBe(fast.address);
      await expect.poll(() => better, WAIT).toBeGreaterThan(before);
    } finally {
      links.close();
    }
  });

  it('are not left for one that is hardly better', async () => {
    const costs = new Map([
      ['10.0.0.1:1', 1e8],
      ['10.0.0.2:1', 1.2e8],
      ['10.0.0.3:1', 2e8],
    ]);
    const links = new Links({
      credentials,
      onBetter: () => {},
      probe: (_peer, address) =>
        Promise.resolve({ latencySeconds: 0.0001, bytesPerSecond: costs.get(address) }),
    });
    try {
      links.learn(NAME, ['10.0.0.1:1', '10.0.0.2:1']);
      links.uses(NAME, '10.0.0.1:1');
      await expect.poll(() => links.states().every(({ up }) => up), WAIT).toBe(true);
      expect(links.waysTo(NAME)).toEqual(['10.0.0.1:1', '10.0.0.2:1']);
      links.learn(NAME, ['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1']);
      await expect.poll(() => links.waysTo(NAME)[0], WAIT).toBe('10.0.0.3:1');
    } finally {
      links.close();
    }
  });
});
