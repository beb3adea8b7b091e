/** init, start, invite, join, nodes, node remove: real processes, each with a home of its own. */
import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createServer } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { decodeToken } from '@minikeep/protocol/rpc';
import { FaultyProxy } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Homes, type RunningNode } from './homes.ts';
import { jsonError, minikeep, type Ended } from './minikeep.ts';

const homes = new Homes();
const minute = new Homes();
let first: RunningNode;
let address: string;

/** A node whose certificate is good for a minute: it runs while the other tests do. */
let renewing: Promise<{ readonly node: RunningNode; readonly before: number }>;
async function startRenewing(): Promise<Awaited<typeof renewing>> {
  const node = await minute.startFirst('r', '--certificate-days', String(60 / 86_400));
  const [row] = await minute.nodes('r');
  return { node, before: Date.parse(row?.certificate_ends ?? '') };
}

beforeAll(async () => {
  renewing = startRenewing();
  await renewing;
  first = await homes.startFirst('a');
  address = first.last('coordinator')?.address ?? '';
});
afterAll(() => Promise.all([homes.close(), minute.close()]));

const join = (home: string, token: string, ...args: string[]) =>
  homes.run(home, 'join', address, '--token-file', token, '--json', ...args);
const events = async (): Promise<{ kind: string; data: Record<string, string> }[]> => {
  const { stdout } = await homes.run('a', 'events', '--json', '--count', '1000');
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { kind: string; data: Record<string, string> });
};

describe('a machine that joins', () => {
  it('becomes a node, and comes up', async () => {
    const token = await homes.token('a');
    const joined = await join('b', token, '--name', 'mini-2');
    expect(joined.stderr).toBe('');
    expect(JSON.parse(joined.stdout)).toMatchObject({ cluster: 'lab', node: 'mini-2' });
    await homes.untilStates('a', { 'mini-2': 'joined' });
    await homes.start('b');
    await homes.untilStates('a', { 'mini-2': 'up' });
  });

  it('may repeat a join that was cut, with the same token; another machine may not have it', async () => {
    const token = await homes.token('a');
    expect((await join('c', token, '--name', 'mini-3')).code).toBe(0);
    // As after a cut before the answer came: the key is there, the rest is not.
    const before = homes.read('c', 'node-key.pem');
    const again = await join('c', token, '--name', 'mini-3');
    expect(JSON.parse(again.stdout)).toMatchObject({ node: 'mini-3' });
    expect(homes.read('c', 'node-key.pem')).toBe(before);
    const other = await join('d', token);
    expect([other.code, jsonError(other).code]).toEqual([5, 'token.refused']);
    expect((await events()).at(-1)).toMatchObject({ kind: 'join.refused', data: { why: 'used' } });
    const names = (await homes.nodes('a')).map((node) => node.name);
    expect(names.filter((name) => name === 'mini-3')).toHaveLength(1);
  });

  it('gets a name like the one it wished when that is taken, or a clear refusal when it insists', async () => {
    const token = await homes.token('a');
    const refused = await join('d', token, '--name', 'mini-2');
    expect([refused.code, jsonError(refused).code]).toEqual([5, 'node.name_taken']);
    const wished = await join('d', token);
    expect(wished.code).toBe(0);
    const { node } = JSON.parse(wished.stdout) as { node: string };
    expect((await homes.nodes('a')).filter((n) => n.name === node)).toHaveLength(1);
  });

  it('two at once with one name: one gets it, the other hears so, or gets one like it when it only wished', async () => {
    const [one, two] = [await homes.token('a'), await homes.token('a')];
    const both = await Promise.all([
      join('e1', one, '--name', 'mini-7'),
      join('e2', two, '--name', 'mini-7'),
    ]);
    expect(both.map(({ code }) => Number(code)).toSorted((a, b) => a - b)).toEqual([0, 5]);
    const loser = both[0].code === 0 ? 1 : 0;
    expect(jsonError(both[loser]).code).toBe('node.name_taken');
    expect(jsonError(both[loser]).next).toContain('--name');
    // Its token is as good as before.
    expect((await join(loser === 0 ? 'e1' : 'e2', loser === 0 ? one : two)).code).toBe(0);
    const names = (await homes.nodes('a')).map((node) => node.name);
    expect(new Set(names).size).toBe(names.length);
  });

  it('two at once with one token: one gets in', async () => {
    const token = await homes.token('a');
    const both = await Promise.all([join('e', token), join('f', token)]);
    expect(new Set(both.map((ended) => ended.code))).toEqual(new Set([0, 5]));
  });

  it('is told what is wrong with its token, as far as it may know', async () => {
    const short = await homes.token('a', '--expires', '1s');
    const typed = homes.file('mistyped', 'mk1.AAAA');
    const mistyped = await join('g', typed);
    expect([mistyped.code, jsonError(mistyped).code]).toEqual([2, 'token.mistyped']);
    const none = await join('g', homes.home('no-such-file'));
    expect([none.code, jsonError(none).code]).toEqual([2, 'usage.input_unreadable']);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const expired = await join('g', short);
    expect([expired.code, jsonError(expired).code]).toEqual([5, 'token.refused']);
    expect((await events()).at(-1)).toMatchObject({ data: { why: 'expired' } });
  });

  it('reads the token from stdin, and finds the cluster by what the token says', async () => {
    const { token } = await homes.json<{ token: string }>('a', 'invite');
    const ended = await minikeep(
      ['join', '--token-file', '-', '--home', homes.home('h'), '--json'],
      {
        input: `${token}\n`,
      },
    );
    expect([ended.stderr, ended.code]).toEqual(['', 0]);
  });

  it('says nothing to a man in the middle', async () => {
    const token = await homes.token('a');
    const his = (await CertificateAuthority.create('lab-1', Date.now())).authority;
    const own = await his.issue('coordinator', 'coordinator');
    const heard: Buffer[] = [];
    const options = { cert: own.certificatePem + his.certificatePem, key: own.privateKeyPem };
    const server = createServer(options, (socket) => {
      socket.on('error', () => {}).on('data', (data: Buffer) => heard.push(data));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const ended = await homes.run(
      'i',
      'join',
      `127.0.0.1:${port}`,
      '--token-file',
      token,
      '--json',
    );
    server.close();
    expect([ended.code, jsonError(ended).code]).toEqual([5, 'join.other_authority']);
    expect(heard).toEqual([]);
    expect((await join('i', token)).code).toBe(0);
  });

  it('of another cluster is not mixed up with this one', async () => {
    await homes.json('z', 'init', '--name', 'other', '--listen', '127.0.0.1:0');
    const other = await homes.start('z');
    await other.listening('coordinator');
    const token = await homes.token('z');
    const ended = await join('y', token);
    expect([ended.code, jsonError(ended).code]).toEqual([5, 'join.other_authority']);
    expect(await other.stop()).toBe(0);
  });
});

describe('a join that is cut', () => {
  let proxy: FaultyProxy;
  let command: readonly string[] = [];
  let wholeBytes = 0;
  const again = (): Promise<Ended> => homes.run('j', ...command);
  beforeAll(async () => {
    const { enrolment_address: to } = JSON.parse(homes.read('a', 'running.json')) as {
      enrolment_address: string;
    };
    proxy = await FaultyProxy.start(to);
    const token = await homes.token('a');
    command = ['join', proxy.address, '--token-file', token, '--name', 'mini-8', '--json'];
    const other = await homes.token('a');
    const whole = ['join', proxy.address, '--token-file', other, '--json'];
    expect((await homes.run('j0', ...whole)).code).toBe(0);
    wholeBytes = proxy.passedBytes;
  });
  afterAll(() => proxy.close());

  /** Parts of what the coordinator sends: while its certificate is looked at, before and after it has heard the request. */
  const PARTS = [0, 0.2, 0.45, 0.6, 0.8, 0.9, 0.97];

  it('at any step is a clear error, and the same command with the same token goes on', async () => {
    let cuts = 0;
    for (const part of PARTS) {
      proxy.set({ cutAfterBytes: Math.floor(part * wholeBytes) });
      const ended = await again();
      if (ended.code === 0) continue;
      cuts += 1;
      expect([4, ['join.unreachable', 'join.cut']]).toEqual([
        ended.code,
        expect.arrayContaining([jsonError(ended).code]),
      ]);
      expect(jsonError(ended).next).toMatch(/minikeep start|same command again/);
    }
    expect(cuts).toBeGreaterThanOrEqual(PARTS.length - 2);
  }, 60_000);

  it('by the death of the joining process, before or after it was taken in, goes on as well', async () => {
    for (const part of PARTS.slice(2)) {
      // Nothing comes any more from there on: time enough to kill it at that step.
      proxy.set({ silentAfterBytes: Math.floor(part * wholeBytes) });
      const ended = await minikeep([...command, '--home', homes.home('j')], {
        onStart: (child) => {
          const timer = setInterval(() => {
            if (proxy.passedBytes >= part * wholeBytes) child.kill('SIGKILL');
          }, 5);
          child.once('close', () => clearInterval(timer));
        },
      });
      expect(ended.signal === 'SIGKILL' || ended.code === 0).toBe(true);
    }
    proxy.set({});
    expect((await again()).code).toBe(0);
    // What it writes once it was taken in, the last first: as after a death between two of them.
    const written = ['node.json', 'node-certificate.pem', 'authority.pem'];
    for (let missing = 1; missing <= written.length; missing++) {
      for (const file of written.slice(0, missing)) rmSync(path.join(homes.home('j'), file));
      expect((await again()).code).toBe(0);
    }
    const names = (await homes.nodes('a')).map((node) => node.name);
    expect(names.filter((name) => name.startsWith('mini-8'))).toEqual(['mini-8']);
    const node = await homes.start('j');
    await homes.untilStates('a', { 'mini-8': 'up' });
    await node.stop();
  }, 90_000);
});

describe('secrets', () => {
  it('of a token are kept as a digest only', async () => {
    const { token } = await homes.json<{ token: string }>('a', 'invite');
    const { secret } = decodeToken(token);
    for (const file of ['state.db', 'state.db-wal']) {
      const { readFileSync } = await import('node:fs');
      expect(readFileSync(`${homes.home('a')}/${file}`).includes(Buffer.from(secret))).toBe(false);
    }
  });
});

describe('a home', () => {
  it('that was copied to another machine is found, and the first one goes on', async () => {
    cpSync(homes.home('b'), homes.home('b2'), { recursive: true });
    const clone = await homes.start('b2');
    expect(await clone.ended).toBe(5);
    expect(clone.stderr).toContain('node.cloned');
    await homes.untilStates('a', { 'mini-2': 'up' });
  });

  it('is used by one process at a time, and made once', async () => {
    const second = await homes.run('a', 'start', '--json');
    expect([second.code, jsonError(second).code]).toEqual([1, 'home.in_use']);
    const again = await homes.run('a', 'init', '--json');
    expect([again.code, jsonError(again).code]).toEqual([2, 'cluster.exists']);
    const elsewhere = await homes.run('b', 'invite', '--json');
    expect([elsewhere.code, jsonError(elsewhere).code]).toEqual([2, 'home.not_coordinator']);
    const nowhere = await homes.run('no-home', 'nodes', '--json');
    expect([nowhere.code, jsonError(nowhere).code]).toEqual([2, 'home.no_cluster']);
  });
});

describe('a coordinator that is killed', () => {
  it('is started again by itself, on the same port, and knows its nodes', async () => {
    const before = first.last('coordinator');
    process.kill(before?.pid ?? 0, 'SIGKILL');
    const deadline = Date.now() + 30_000;
    while (first.last('coordinator')?.pid === before?.pid && Date.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 50));
    expect(first.last('coordinator')).toMatchObject({ address: before?.address, again: true });
    await homes.untilStates('a', { 'mini-2': 'up' });
  });
});

describe('a node that is removed', () => {
  it('is shut out at once, ends, and can come back with a new token only', async () => {
    const node = [...homes.running].find((each) => each !== first);
    const removed = await homes.json<{ told: string[] }>('a', 'node', 'remove', 'mini-2');
    expect(removed.told).toHaveLength(1);
    expect((await homes.nodes('a')).map((each) => each.name)).not.toContain('mini-2');
    await node?.stop();
    const again = await homes.start('b');
    expect(await again.ended).toBe(5);
    expect(again.stderr).toContain('access.removed');
    const token = await homes.token('a');
    expect((await join('b', token)).code).toBe(0);
    await homes.start('b');
    await homes.untilStates('a', { 'mini-2': 'up' });
  });

  it('that nobody knows, or that is the coordinator’s own, is refused', async () => {
    const unknown = await homes.run('a', 'node', 'remove', 'nobody', '--json');
    expect([unknown.code, jsonError(unknown).code]).toEqual([2, 'node.unknown']);
    const own = (await homes.nodes('a')).find((node) => node.coordinator)?.name ?? '';
    const refused = await homes.run('a', 'node', 'remove', own, '--json');
    expect([refused.code, jsonError(refused).code]).toEqual([2, 'node.is_coordinator']);
  });
});

it('a coordinator that does not run is named, with how to start it', async () => {
  expect(await first.stop()).toBe(0);
  const ended = await homes.run('a', 'nodes', '--json');
  expect([ended.code, jsonError(ended).code]).toEqual([4, 'cluster.not_running']);
});

it('certificates are renewed before they end', async () => {
  const { node, before } = await renewing;
  const ends = async (): Promise<number> =>
    Date.parse((await minute.nodes('r'))[0]?.certificate_ends ?? '');
  const deadline = Date.now() + 90_000;
  while ((await ends()) === before && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await ends()).toBeGreaterThan(before);
  expect((await minute.nodes('r'))[0]?.state).toBe('up');
  await node.stop();
}, 150_000);
