/** Frames over links that go and come: every one arrives, once and in order, whatever is cut when. */
import { FaultyProxy } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { CertificateAuthority } from '../src/authority.ts';
import { MinikeepError } from '../src/errors.ts';
import type { Identity } from '../src/identity.ts';
import {
  FrameInlet,
  FrameLink,
  RawDataPlaneDefinition,
  accessInterceptor,
  listen,
  makeServer,
  type CredentialPems,
} from '../src/rpc-index.ts';

const CLUSTER = 'links-test';
const RECEIVER: Identity = { cluster: CLUSTER, role: 'node', name: 'receiver' };
const TIMEOUT_MS = 60_000;
const CUTS = process.env['MINIKEEP_LONG'] === '1' ? 300 : 12;

let authority: CertificateAuthority;
let address = '';
let inlet: FrameInlet;
const server = makeServer();
const received: number[] = [];
const lost: string[] = [];
/** How long the receiver's engine takes for a frame. */
let engineMs = 0;
const links: FrameLink[] = [];
const proxies: FaultyProxy[] = [];

async function pems(name: string): Promise<CredentialPems> {
  const issued = await authority.issue('node', name);
  return {
    authority: authority.certificatePem,
    certificate: issued.certificatePem,
    privateKey: issued.privateKeyPem,
  };
}

beforeAll(async () => {
  authority = await CertificateAuthority.throwAway(CLUSTER, Date.now());
  server.add(RawDataPlaneDefinition, {
    async *frames(request, context) {
      if (inlet.over)
        throw new MinikeepError('access.denied', 'it is over', { next: '', exitCode: 5 });
      yield* inlet.serve(request, context);
    },
  });
  const { port } = await listen(server, '127.0.0.1:0', await pems('receiver'), [
    accessInterceptor(CLUSTER, { 'minikeep.v1.DataPlaneService': ['node'] }),
  ]);
  address = `127.0.0.1:${port}`;
});
afterAll(() => server.forceShutdown());
afterEach(async () => {
  for (const link of links.splice(0)) link.close();
  for (const proxy of proxies.splice(0)) await proxy.close();
  inlet.close(new MinikeepError('test.over', 'the test is over', { next: '' }));
});

function expectFrames(patienceMs?: number): void {
  received.length = lost.length = 0;
  engineMs = 0;
  inlet = new FrameInlet({
    sender: 'sender',
    ...(patienceMs === undefined ? {} : { patienceMs }),
    take(frame) {
      received.push(new DataView(frame.buffer, frame.byteOffset).getUint32(0));
      return engineMs === 0 ? undefined : new Promise((resolve) => setTimeout(resolve, engineMs));
    },
    onLost: (error) => lost.push(error.code),
  });
}

async function proxy(): Promise<FaultyProxy> {
  const made = await FaultyProxy.start(address);
  proxies.push(made);
  return made;
}

async function open(ways: () => readonly string[], patienceMs = 30_000): Promise<FrameLink> {
  const link = new FrameLink({
    ways,
    patienceMs,
    credentials: await pems('sender'),
    neighbour: RECEIVER,
    deployment: 'd1',
    epoch: 1,
    session: 1,
    onEnd: (error) => {
      if (error !== undefined) lost.push(`sender ${error.code}`);
    },
  });
  links.push(link);
  await link.accepted;
  return link;
}

function frame(number: number, bytes = 4_000): Uint8Array {
  const payload = new Uint8Array(bytes);
  new DataView(payload.buffer).setUint32(0, number);
  return payload;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

async function arrived(count: number): Promise<void> {
  await expect.poll(() => received.length, { timeout: 30_000 }).toBe(count);
  expect(received).toEqual(upTo(count));
}

describe('frames over two links', { timeout: TIMEOUT_MS }, () => {
  it('go on over the other one when theirs is cut, again and again, at any moment', async () => {
    expectFrames();
    const both = [await proxy(), await proxy()];
    const link = await open(() => both.map((each) => each.address));
    let sent = 0;
    for (let cut = 0; cut < CUTS; cut++) {
      const until = sent + 20 + ((cut * 37) % 90);
      while (sent < until) {
        // Asked for at once: the room may be there a moment later.
        if (!link.send(frame(sent++)))
          await new Promise<void>((resolve) => link.onceDrained(resolve));
        else if (sent % 16 === 0) await pause(cut % 3);
      }
      // Both, now and then: then there is a moment without any.
      for (const [i, each] of both.entries())
        if (cut % 4 === 3 || each.address === link.way || i === cut % 5) each.set({});
    }
    await arrived(sent);
    expect(lost).toEqual([]);
  });

  it('change over when the cable is pulled and nobody is told', async () => {
    expectFrames();
    const both = [await proxy(), await proxy()] as const;
    const link = await open(() => both.map((each) => each.address));
    const first = link.way;
    for (const i of upTo(10)) link.send(frame(i));
    await arrived(10);
    both.find((each) => each.address === first)?.pull();
    const pulled = performance.now();
    for (const i of upTo(10)) link.send(frame(10 + i));
    await arrived(20);
    expect(link.way).not.toBe(first);
    // A ping after a second, three for its answer, and a connection: with room for a busy machine.
    expect(performance.now() - pulled).toBeLessThan(15_000);
    expect(lost).toEqual([]);
  });

  it('move to a better link while they flow', async () => {
    expectFrames();
    engineMs = 1;
    const both = [await proxy(), await proxy()] as const;
    let ways = both.map((each) => each.address);
    const link = await open(() => ways);
    for (const i of upTo(400)) {
      link.send(frame(i));
      if (i % 100 !== 50) continue;
      ways = ways.toReversed();
      link.reconsider();
      await expect.poll(() => link.way, { timeout: 20_000 }).toBe(ways[0]);
    }
    await arrived(400);
    expect(lost).toEqual([]);
  });

  it('wait for a link when there is none, and push back meanwhile', async () => {
    expectFrames();
    const only = await proxy();
    const link = await open(() => [only.address]);
    link.send(frame(0));
    await arrived(1);
    only.set({ cutAfterBytes: 0 });
    await expect.poll(() => link.brokenSeconds, { timeout: 10_000 }).toBeGreaterThan(0);
    let sent = 1;
    while (link.send(frame(sent++))) expect(sent).toBeLessThan(2_000);
    let drained = false;
    link.onceDrained(() => (drained = true));
    await pause(300);
    expect([drained, received.length]).toEqual([false, 1]);
    only.set({});
    await arrived(sent);
    await expect.poll(() => drained, { timeout: 10_000 }).toBe(true);
    expect(link.brokenSeconds).toBe(0);
  });
});

describe('frames without any link', { timeout: TIMEOUT_MS }, () => {
  it('are given up after a while, on both sides, and the session is over', async () => {
    expectFrames(1_500);
    const only = await proxy();
    const link = await open(() => [only.address], 1_000);
    link.send(frame(0));
    await arrived(1);
    only.set({ cutAfterBytes: 0 });
    await expect
      .poll(() => lost.toSorted(), { timeout: 45_000 })
      .toEqual(['pipeline.stream_lost', 'sender pipeline.stream_lost']);
    expect(inlet.over).toBe(true);
  });

  it('a frame that is missing ends the session: nothing is taken out of order', async () => {
    expectFrames();
    const link = await open(() => [address]);
    for (const i of upTo(3)) link.send(frame(i));
    await arrived(3);
    // As a receiver that forgot what it had.
    const old = inlet;
    expectFrames();
    old.close(new MinikeepError('test.forgot', 'forgotten', { next: '' }));
    await expect.poll(() => lost, { timeout: 20_000 }).toContain('sender pipeline.stream_lost');
    expect(received).toEqual([]);
  });
});
