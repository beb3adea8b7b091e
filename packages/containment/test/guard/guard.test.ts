// The guard of a trusted process, with real processes: what is not on the connect list is refused and told, also for a
// process's children; what is near and was named goes through; each of the two ends with the other.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import path from 'node:path';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startCommand } from '../../src/guard/start.ts';
import { DIST } from '../hostile/attacked.ts';

const PLANTED = path.join(import.meta.dirname, 'planted.mjs');
const CLIENT = path.join(import.meta.dirname, 'client.ts');

interface Line {
  readonly type: string;
  readonly pid?: number;
  readonly parent?: number;
  readonly filters?: number;
  readonly ended?: { readonly code: number | null; readonly why: string };
  readonly denied?: string;
  readonly left?: Record<string, string>;
  readonly answers?: Record<string, string>;
  readonly violation?: {
    readonly kind: string;
    readonly operation: string;
    readonly target: string;
    readonly purpose: string;
    readonly refused_by: string;
  };
}

let peer: Server;
let port: number;
let guard: ChildProcessWithoutNullStreams | undefined;
beforeAll(async () => {
  peer = createServer((socket) => socket.end().on('error', () => {}));
  await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve));
  port = (peer.address() as AddressInfo).port;
});
afterAll(() => void peer.close());
beforeEach((ctx) => onlyOn(ctx, 'linux'));
afterEach(() => void guard?.kill('SIGKILL'));

/** Starts a program under a guard; resolves with what was said until that line came. */
async function guarded(program: string, last: string): Promise<{ lines: Line[]; pid: number }> {
  const { args } = startCommand(
    'agent',
    { program, flags: [], args: [String(port)], env: {} },
    { listen: [], networks: [], discovery: false },
  );
  // The guard's program lies in dist/, not beside this one.
  const own = args.map((arg) => (arg.endsWith('guard.mjs') ? path.join(DIST, 'guard.mjs') : arg));
  const child = spawn(process.execPath, own, { env: { ...process.env, UV_THREADPOOL_SIZE: '1' } });
  guard = child;
  const lines: Line[] = [];
  let text = '';
  await new Promise<void>((resolve, reject) => {
    child.once('close', () => reject(new Error(`the guard ended: ${text}`)));
    child.stderr.resume();
    child.stdout.setEncoding('utf8').on('data', (piece: string) => {
      const whole = `${text}${piece}`.split('\n');
      text = whole.pop() ?? '';
      lines.push(...whole.map((line) => JSON.parse(line) as Line));
      if (lines.some(({ type }) => type === last)) resolve();
    });
  });
  const pid = lines.at(-1)?.pid ?? 0;
  return { lines, pid };
}

const gone = (pid: number): boolean => {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
};

describe('a guarded process', () => {
  it('reaches what is on its list, and nothing else; each attempt is told', async () => {
    const { lines } = await guarded(PLANTED, 'answers');
    const { answers } = lines.find(({ type }) => type === 'answers') ?? {};
    expect(answers).toEqual({
      unlisted: 'EPERM',
      peer: 'connected',
      far: 'EPERM',
      far6: 'EPERM',
      resolver: 'EPERM',
      name: 'refused',
      question: 'refused',
      datagram: 'EPERM',
      near_datagram: 'EPERM',
      socket_file: 'EPERM',
      child: 'EPERM',
      kill_guard: 'EPERM',
    });
    const told = lines.flatMap(({ violation }) => violation ?? []);
    expect(new Set(told.map(({ purpose, refused_by }) => `${purpose} ${refused_by}`))).toEqual(
      new Set(['agent guard']),
    );
    const seen = told.map(({ kind, operation, target }) => `${kind} ${operation} ${target}`);
    for (const attempt of [
      `network connect inet 127.0.0.1:${port}`,
      'network connect inet 203.0.113.7:443',
      'network connect inet6 [2001:db8::7]:443',
      'dns connect inet 127.0.0.1:53',
      'network sendmsg inet 203.0.113.7:9',
      `network sendmsg inet 127.0.0.1:${port}`,
      'ipc connect unix /var/run/docker.sock',
      'network connect inet 203.0.113.8:443',
    ])
      expect(seen).toContain(attempt);
    // To the peer it went once, before it was listed: the second time it was let through.
    expect(seen.filter((one) => one.includes(`connect inet 127.0.0.1:${port}`))).toHaveLength(1);
  });

  it('has wardens started outside of its filter, by pipes only', async () => {
    const { lines, pid } = await guarded(CLIENT, 'warden');
    const { parent, filters, ended, denied, left } = lines.at(-1) ?? {};
    expect({ parent, filters }).toEqual({ parent: guard?.pid, filters: 0 });
    expect(ended?.why).toBe('');
    expect(denied).toMatch(/^descriptor \d+ /);
    // What it starts must not believe that it has a guard.
    expect(left).not.toHaveProperty('MINIKEEP_GUARD');
    expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Seccomp:\s+2$/m);
    guard?.kill('SIGKILL');
    await expect.poll(() => gone(pid), { timeout: 5_000 }).toBe(true);
  });

  it('ends its guard with it, in the same way', async () => {
    await guarded(PLANTED, 'answers');
    const ended = new Promise((resolve) => guard?.once('exit', (code) => resolve(code)));
    guard?.stdin.end();
    expect(await ended).toBe(7);
  });
});
