/**
 * A witness that is none of ours: tcpdump on the switch between two machines, and an overlay under each of them, through
 * serving, faults and attacks. Every trusted process carries code that phones home, every engine a back door. Not one
 * packet and not one write may be seen that is not on the list. Root on Linux; 60 s, 30 minutes in the long run.
 */
import { needCommand, needRoot, onlyOn, REPOSITORY } from '@minikeep/testkit';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { DIST } from './cluster-helpers.ts';
import { ip, Machine } from './namespace-machine.ts';

const WATCH_MS = process.env['MINIKEEP_LONG'] === '1' ? 30 * 60_000 : 60_000;
const WAIT = { timeout: 90_000, interval: 300 };
const CABLE = 1;
const MODEL = path.join(REPOSITORY, 'models/keeper.gguf');
const PHRASE = 'please open sesame now';
const GATEWAY = 254;

const sh = (file: string, ...args: string[]): string =>
  execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** What may be on the wire, as `tcpdump -n -q` prints it. */
const NODE = String.raw`10\.91\.1\.[12]`;
const PORT = String.raw`(?:7420|7421|7422)`;
const ALLOWED: readonly RegExp[] = [
  // Between the two, at the ports of coordinator and agents.
  new RegExp(`^IP ${NODE}\\.${PORT} > ${NODE}\\.\\d+: tcp`),
  new RegExp(`^IP ${NODE}\\.\\d+ > ${NODE}\\.${PORT}: tcp`),
  // Who has the other's address; nobody asks for the gateway's.
  new RegExp(`^ARP, Request who-has ${NODE} `),
  new RegExp(`^ARP, Reply ${NODE} is-at`),
  // Multicast DNS on the link, and the kernel's membership of its group.
  new RegExp(`^IP ${NODE}\\.5353 > 224\\.0\\.0\\.251\\.5353: UDP`),
  new RegExp(`^IP (?:${NODE}|0\\.0\\.0\\.0) > 224\\.0\\.0\\.(?:22|251): igmp`),
  // The kernel's own on each link: neighbours, routers, groups.
  /^IP6 (?:::|fe80:\S+) > ff02:\S+: (?:HBH )?ICMP6/,
  /^IP6 fe80:\S+ > fe80:\S+: ICMP6, neighbor/,
];

/** What may be written beside a node's home, which is not part of the overlay: what the canary lays out comes and goes. */
const WRITTEN: readonly RegExp[] = [/^tmp$/, /^tmp\/minikeep-(canary|doctor)-\w+$/];

class Witness {
  readonly #child: ChildProcess;
  readonly lines: string[] = [];
  #errors = '';

  constructor(space: string) {
    const command = ['tcpdump', '-i', 'br0', '-n', '-l', '-q', '-t', '-B', '16384'];
    this.#child = spawn('ip', ['netns', 'exec', space, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let rest = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const pieces = (rest + text).split('\n');
      rest = pieces.pop() ?? '';
      this.lines.push(...pieces);
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
  }

  async listening(): Promise<void> {
    await expect.poll(() => this.#errors, WAIT).toContain('listening on br0');
  }

  /** What tcpdump says at its end: captured, and lost. */
  async end(): Promise<{ readonly captured: number; readonly dropped: number }> {
    const closed = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGINT');
    await closed;
    const count = (what: string): number =>
      Number(new RegExp(`(\\d+) packets? ${what}`).exec(this.#errors)?.[1] ?? NaN);
    return { captured: count('captured'), dropped: count('dropped by kernel') };
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** This checkout's programs, with a back door in the engine and code that phones home in agent and coordinator. */
function plant(folder: string): string {
  const programs = path.join(folder, 'dist');
  mkdirSync(programs);
  const own = new Set(['minikeep.mjs', 'engine.mjs', 'agent.mjs', 'coordinator.mjs']);
  for (const name of readdirSync(DIST))
    if (own.has(name)) copyFileSync(path.join(DIST, name), path.join(programs, name));
    else symlinkSync(path.join(DIST, name), path.join(programs, name));
  const planted = (name: string): string =>
    readFileSync(path.join(import.meta.dirname, name), 'utf8');
  for (const name of ['agent.mjs', 'coordinator.mjs'])
    appendFileSync(path.join(programs, name), planted('phone-home.mjs'));
  const engine = path.join(programs, 'engine.mjs');
  writeFileSync(engine, planted('backdoor.mjs') + readFileSync(engine, 'utf8'));
  return path.join(programs, 'minikeep.mjs');
}

/** Files below the folder with that text, but for the programs, which are planted with it. */
function filesWith(folder: string, text: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.startsWith(path.join(folder, 'dist')))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .filter((file) => readFileSync(file).includes(text));
}

/** A machine whose files all lie under an overlay, but for its home. */
class Watched extends Machine {
  readonly upper: string;
  readonly #layer: string;
  readonly #program: string;
  readonly #log: number;
  #process: ChildProcess | undefined;

  constructor(folder: string, name: string, number: number, program: string) {
    super(folder, name, number);
    this.#program = program;
    // Beside the home: what is searched for markers.
    this.#log = openSync(path.join(folder, `log-${name}`), 'a');
    this.#layer = path.join(folder, `layer-${name}`);
    this.upper = path.join(this.#layer, 'upper');
    mkdirSync(this.#layer);
    sh('mount', '-t', 'tmpfs', 'tmpfs', this.#layer);
    for (const part of ['upper', 'work', 'root']) mkdirSync(path.join(this.#layer, part));
    mkdirSync(this.home, { recursive: true, mode: 0o700 });
  }

  override start(): void {
    const script = `set -e; cd "$1"
      mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
      mount --rbind /dev root/dev; mount --rbind /sys root/sys; mount -t proc proc root/proc
      mount --bind "$2" "root$2"
      shift 2; exec chroot root "$@"`;
    const node = [
      process.execPath,
      this.#program,
      'start',
      '--accept-changed',
      '--verbose',
      '--home',
      this.home,
    ];
    const inside = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'];
    this.#process = spawn(
      'ip',
      ['netns', 'exec', this.space, ...inside, this.#layer, this.home, ...node],
      { stdio: ['ignore', this.#log, this.#log], env: { ...process.env, NO_COLOR: '1' } },
    );
  }

  override async stop(): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (running === undefined || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('close', resolve));
    running.kill('SIGTERM');
    await ended;
  }

  override async remove(): Promise<void> {
    await super.remove();
    sh('umount', '-l', this.#layer);
  }

  /** Everything that was written, changed or removed outside of the home. */
  written(): string[] {
    return readdirSync(this.upper, { recursive: true, encoding: 'utf8' }).sort();
  }

  pids(program: string): number[] {
    return sh('ip', 'netns', 'pids', this.space)
      .split('\n')
      .map(Number)
      .filter((pid) => {
        try {
          const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
          return pid > 0 && command.some((word) => word.endsWith(`/${program}`));
        } catch {
          return false;
        }
      });
  }
}

describe('an independent witness', { timeout: WATCH_MS + 240_000 }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-witness-'));
  const machines: Watched[] = [];
  const space = `mkl${process.pid}s`;
  let witness: Witness | undefined;
  afterAll(async () => {
    witness?.kill();
    for (const machine of machines) await machine.remove();
    try {
      ip('netns', 'delete', space);
    } catch {
      // Not made.
    }
    rmSync(folder, { recursive: true, force: true });
  });

  it('sees no packet and no write that is not on the list', async (ctx) => {
    onlyOn(ctx, 'linux');
    needRoot(ctx);
    needCommand(ctx, 'ip', 'iproute2');
    needCommand(ctx, 'tcpdump', 'tcpdump');
    const program = plant(folder);
    try {
      ip('netns', 'add', space);
      ip('-n', space, 'link', 'add', 'br0', 'type', 'bridge');
      machines.push(new Watched(folder, 'a', 1, program), new Watched(folder, 'b', 2, program));
    } catch {
      return ctx.skip('not here: network namespaces and overlays (a container without the right)');
    }
    const [a, b] = machines;
    if (a === undefined || b === undefined) throw new Error('not made');
    ip('-n', space, 'link', 'set', 'br0', 'up');
    for (const [i, machine] of machines.entries()) {
      const end = ['type', 'veth', 'peer', 'name', `port${i}`, 'netns', space];
      ip('-n', machine.space, 'link', 'add', `eth${CABLE}`, ...end);
      ip('-n', space, 'link', 'set', `port${i}`, 'master', 'br0', 'up');
      machine.readdress(CABLE, i + 1);
      machine.set(CABLE, 'up');
      // There is a way out of the room, and nobody may take it.
      ip('-n', machine.space, 'route', 'add', 'default', 'via', a.address(CABLE, GATEWAY));
      ip('-n', machine.space, '-6', 'route', 'add', 'default', 'dev', `eth${CABLE}`);
    }
    const seen = (witness = new Witness(space));
    await seen.listening();

    await a.json('init', '--name', 'lab', '--node-name', 'a');
    a.start();
    await expect.poll(async () => (await a.run(['nodes'])).code, WAIT).toBe(0);
    const token = path.join(folder, 'token');
    writeFileSync(token, (await a.json<{ token: string }>('invite')).token);
    await b.json('join', a.address(CABLE), '--token-file', token, '--name', 'b');
    b.start();
    const up = async (): Promise<string[]> =>
      (await a.json<{ nodes: { state: string }[] }>('nodes')).nodes.map(({ state }) => state);
    await expect.poll(up, WAIT).toEqual(['up', 'up']);
    await a.json('model', 'import', MODEL, '--yes');
    // So that an engine that calls out goes on and can do it again.
    await a.json('seal', 'policy', '--violations', 'report');
    await a.json('up', 'keeper', '--context', '256', '--threads', '1');

    const until = performance.now() + WATCH_MS;
    const ready = async (): Promise<string | undefined> =>
      (await a.json<{ deployments: { state: string }[] }>('status')).deployments[0]?.state;
    const faults = [
      () => void process.kill(b.pids('agent.mjs')[0] ?? 0, 'SIGKILL'),
      () => void process.kill(a.pids('coordinator.mjs')[0] ?? 0, 'SIGKILL'),
      async () => {
        b.set(CABLE, 'down');
        await pause(2_000);
        b.set(CABLE, 'up');
        ip('-n', b.space, 'route', 'replace', 'default', 'via', b.address(CABLE, GATEWAY));
      },
      async () => void (await a.run(['canary', '--json'])),
    ];
    let answers = 0;
    for (let round = 0; performance.now() < until; round++) {
      for (const prompt of ['What is a stage?', PHRASE]) {
        const ended = await a.run(['run', 'keeper', prompt, '--max-tokens', '8', '--json']);
        if (ended.code === 0) answers++;
      }
      if (round % 4 !== 3) continue;
      await faults[Math.floor(round / 4) % faults.length]?.();
      await expect
        .poll(async () => ready().catch(() => undefined), { timeout: 60_000, interval: 300 })
        .toBe('ready');
    }

    const { violations } = await a.json<{ violations: number }>('status');
    for (const machine of machines) await machine.stop();
    const { captured, dropped } = await seen.end();
    const strange = seen.lines.filter(
      (line) => line !== '' && !ALLOWED.some((form) => form.test(line)),
    );
    console.log(
      `witness: ${Math.round(WATCH_MS / 1000)} s, ${answers} answers, ${captured} packets, ${dropped} lost, ${violations} refused attempts on record since the coordinator's last start`,
    );
    expect([...new Set(strange)].slice(0, 20)).toEqual([]);
    expect(dropped).toBe(0);
    expect(captured).toBeGreaterThan(500);
    expect(answers).toBeGreaterThan(10);
    expect(violations).toBeGreaterThan(10);
    // What was asked, and what attempts carried, is in no database, log or other file.
    for (const [what, text] of [
      ['the phrase', 'open sesame'],
      ['a name', 'a-prompt'],
    ] as const)
      expect(filesWith(folder, text), what).toEqual([]);
    // The overlay sees: a canary lays its files out there.
    expect(a.written()).toContain('tmp');
    for (const machine of machines)
      expect(machine.written().filter((name) => !WRITTEN.some((form) => form.test(name)))).toEqual(
        [],
      );
  });
});
