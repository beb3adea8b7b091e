// The root helper itself, in a network namespace of its own: orders over its socket become rules in a real kernel, stay
// there when it is killed, come back when somebody flushes them; and nobody else can use it.
import { needCommand, needNamespaces, needRoot, onlyOn } from '@minikeep/testkit';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, it, type TestContext } from 'vitest';
import { askSealer, orderDigest, signOrder, type SealerStatus } from '../src/index.ts';
import { newAuthority, type Authority } from './authority.ts';
import { wishFor } from './fakes.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../../../dist/sealer.mjs');
const FOR = { cluster: 'law', node: 'mini-2' };
/** Nobody of this machine; the agent's in these tests. */
const AGENT_UID = 12_345;
const NOTICED_MS_MAX = 5_000;
const space = `mkseal${process.pid}`;
let folder = '';
let authority: Authority;
let helper: ChildProcess | undefined;

const at = (name: string): string => path.join(folder, name);
const within = (...args: string[]): string =>
  execFileSync('ip', ['netns', 'exec', space, ...args], { encoding: 'utf8', stdio: 'pipe' });
const rules = (): string => {
  try {
    return within('nft', 'list', 'table', 'inet', 'minikeep');
  } catch {
    return '';
  }
};
const needAll = (ctx: TestContext): void => {
  onlyOn(ctx, 'linux');
  needRoot(ctx);
  needCommand(ctx, 'nft', 'nftables');
  needNamespaces(ctx);
};

/** The first line it prints, as JSON. */
async function start(config: string): Promise<Readonly<Record<string, unknown>>> {
  helper = spawn('ip', ['netns', 'exec', space, process.execPath, PROGRAM, config], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const { stdout } = helper;
  if (stdout === null) throw new Error('no output');
  for await (const line of createInterface({ input: stdout })) return JSON.parse(line) as never;
  throw new Error('it said nothing');
}
async function kill(signal: NodeJS.Signals): Promise<void> {
  const ended = helper;
  helper = undefined;
  if (ended === undefined || ended.exitCode !== null) return;
  ended.kill(signal);
  await once(ended, 'exit');
}
const apply = (status: SealerStatus, peer: string) =>
  signOrder({ verb: 'apply', ...FOR, nonce: status.nonce, wish: wishFor(peer) }, authority.key);

beforeAll(async () => {
  authority = await newAuthority('law');
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-sealer-'));
  chmodSync(folder, 0o755);
  if (process.getuid?.() !== 0) return;
  try {
    execFileSync('ip', ['netns', 'add', space], { stdio: 'pipe' });
  } catch {
    // Said by the tests.
  }
  const config = { ...FOR, authority: authority.certificate, uid: AGENT_UID };
  const files = { socket: at('run/sealer.sock'), state: at('state/sealer.json') };
  writeFileSync(at('config.json'), JSON.stringify({ ...config, ...files }), { mode: 0o600 });
});
afterAll(async () => {
  await kill('SIGKILL');
  try {
    execFileSync('ip', ['netns', 'delete', space], { stdio: 'pipe' });
  } catch {
    // Not made.
  }
  rmSync(folder, { recursive: true, force: true });
});

it('sets, keeps and removes rules, as the authority orders', { timeout: 60_000 }, async (ctx) => {
  needAll(ctx);
  const socket = at('run/sealer.sock');
  expect(await start(at('config.json'))).toMatchObject({ type: 'listening', address: socket });
  const before = await askSealer(socket);
  expect(before).toMatchObject({ stage: 'open', standing: false });

  // Killed before anybody confirmed: the next one undoes it.
  await askSealer(socket, apply(before, '10.94.0.1'));
  expect(rules()).toContain('10.94.0.1');
  await kill('SIGKILL');
  expect(rules()).toContain('10.94.0.1');
  await start(at('config.json'));
  expect(rules()).toBe('');

  const order = apply(await askSealer(socket), '10.94.0.2');
  await askSealer(socket, order);
  const confirm = { verb: 'confirm', ...FOR, order: orderDigest(order) } as const;
  expect(await askSealer(socket, signOrder(confirm, authority.key))).toMatchObject({
    stage: 'confirmed',
    standing: true,
    order: orderDigest(order),
  });
  // In order or not, its end leaves the firewall; and so does the next one's start.
  await kill('SIGTERM');
  expect(rules()).toContain('10.94.0.2');
  await start(at('config.json'));
  expect(await askSealer(socket)).toMatchObject({ stage: 'confirmed', standing: true });

  // By hand: flushed, then with one more rule.
  for (const [count, command] of [
    [1, 'nft flush ruleset'],
    [2, 'nft insert rule inet minikeep outgoing accept'],
  ] as const) {
    within('sh', '-c', command);
    const began = performance.now();
    let status = await askSealer(socket);
    while (status.restored < count && performance.now() - began < NOTICED_MS_MAX) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      status = await askSealer(socket);
    }
    expect(status).toMatchObject({ restored: count, standing: true });
    expect(rules()).toContain('10.94.0.2');
    expect(rules()).not.toMatch(/chain outgoing \{\s+type [^\n]+\n\s+accept\n/);
  }

  const other = await newAuthority('law');
  const { nonce } = await askSealer(socket);
  await expect(
    askSealer(socket, signOrder({ verb: 'remove', ...FOR, nonce }, other.key)),
  ).rejects.toMatchObject({ code: 'seal.not_signed' });
  expect(rules()).toContain('10.94.0.2');
  const removed = signOrder({ verb: 'remove', ...FOR, nonce }, authority.key);
  expect(await askSealer(socket, removed)).toMatchObject({ stage: 'open' });
  expect(rules()).toBe('');
});

it('is asked by its agent’s user and root only, and survives nonsense', async (ctx) => {
  needAll(ctx);
  const socket = at('run/sealer.sock');
  const asked = (uid: number): string =>
    execFileSync(
      'setpriv',
      [
        `--reuid=${uid}`,
        `--regid=${uid}`,
        '--clear-groups',
        process.execPath,
        '-e',
        `require('net').connect(${JSON.stringify(socket)}).on('connect', () => end('open')).on('error', (e) => end(e.code));
         function end(what) { console.log(what); process.exit(); }`,
      ],
      { encoding: 'utf8', cwd: '/' },
    ).trim();
  expect(asked(AGENT_UID)).toBe('open');
  expect(asked(AGENT_UID + 1)).toBe('EACCES');
  const nonsense = [
    'x\n',
    '{"verb":"flush"}\n',
    '{"verb":"status","more":1}\n',
    '{"verb":"order","order":{"text":"","signature":""}}\n',
    `${'a'.repeat(2 ** 20)}\n`,
    '',
  ];
  for (const text of nonsense) {
    const one = connect(socket);
    one.on('error', () => undefined);
    const heard: Buffer[] = [];
    one.on('data', (data: Buffer) => void heard.push(data));
    if (text === '') one.end();
    else one.write(text);
    // A reset is an answer too.
    await new Promise((resolve) => one.once('close', resolve));
    const answer = Buffer.concat(heard).toString();
    if (answer !== '') expect(answer).toContain('seal.not_signed');
  }
  expect(await askSealer(socket)).toMatchObject({ stage: 'open' });
  await kill('SIGTERM');
  await expect(askSealer(socket)).rejects.toMatchObject({ code: 'seal.no_helper' });
});

it('takes no configuration that others can write', async (ctx) => {
  needAll(ctx);
  const loose = at('loose.json');
  writeFileSync(loose, readFileSync(at('config.json')));
  chmodSync(loose, 0o666);
  expect(await start(loose)).toMatchObject({ error: { code: 'seal.bad_config' } });
  chmodSync(loose, 0o600);
  chownSync(loose, AGENT_UID, 0);
  expect(await start(loose)).toMatchObject({ error: { code: 'seal.bad_config' } });
});
