// WARDEN.md row 10: the server of a mounted file system must not hear file names from an engine. A real FUSE server
// writes down what it is asked.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { needRoot, onlyOn, REPOSITORY, type Skippable } from '@minikeep/testkit';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { remoteFileSystem } from '../src/linux/files.ts';
import { type Argument, Attacked, hostileFolder, testFolder } from './hostile/attacked.ts';

const SERVER = path.join(REPOSITORY, 'packages/containment/test/hostile/file-server.ts');
const AT_FDCWD = -100;
const WAIT_MS = 20_000;
const run = promisify(execFile);
let place: ReturnType<typeof hostileFolder>;
let folder: string;
const servers: FileServer[] = [];

/** A mounted file system, and the names that its server heard. */
class FileServer {
  readonly names: string[] = [];
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  /** Skips where nothing can be mounted. */
  static async mount(ctx: Skippable, on: string): Promise<FileServer> {
    needRoot(ctx);
    const child = spawn(process.execPath, ['--no-warnings', SERVER, on], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const server = new FileServer(child);
    servers.push(server);
    const ready = Promise.withResolvers<{ mounted?: true; error?: string }>();
    createInterface({ input: child.stdout ?? process.stdin }).on('line', (text) => {
      const said = JSON.parse(text) as { name?: string; mounted?: true; error?: string };
      if (said.name === undefined) ready.resolve(said);
      else server.names.push(said.name);
    });
    child.once('exit', () => ready.resolve({ error: 'the server ended' }));
    const { error } = await ready.promise;
    if (error !== undefined) ctx.skip(`not here: a FUSE mount (${error})`);
    return server;
  }

  /** All names of before have arrived when this one has. */
  async heard(on: string, marker: string): Promise<readonly string[]> {
    // By another process: a look from here would wait for a line that only this process can read.
    await run('stat', [path.join(on, marker)], { timeout: WAIT_MS }).catch(() => undefined);
    for (let i = 0; i < WAIT_MS / 10 && !this.names.includes(marker); i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(this.names).toContain(marker);
    return this.names.slice(0, this.names.indexOf(marker));
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.stdin?.end();
    await exited;
  }
}

beforeAll(() => {
  if (process.platform !== 'linux') return;
  place = hostileFolder();
  folder = testFolder('mounts');
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.end();
});
afterAll(() => {
  place?.cleanUp();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});
beforeEach((ctx) => onlyOn(ctx, 'linux'));

const newFolder = (name: string): string => {
  const made = path.join(folder, name);
  mkdirSync(made);
  return made;
};

describe('10: a mounted file system', () => {
  const out: Argument = { zeros: 256 };
  const asks: [string, (name: string) => readonly Argument[]][] = [
    ['stat', (s) => [{ s }, out]],
    ['lstat', (s) => [{ s }, out]],
    ['newfstatat', (s) => [AT_FDCWD, { s }, out, 0]],
    ['statx', (s) => [AT_FDCWD, { s }, 0, 0x7ff, out]],
    ['access', (s) => [{ s }, 4]],
    ['faccessat', (s) => [AT_FDCWD, { s }, 4]],
    ['faccessat2', (s) => [AT_FDCWD, { s }, 4, 0]],
    ['readlink', (s) => [{ s }, out, 256]],
    ['readlinkat', (s) => [AT_FDCWD, { s }, out, 256]],
    ['open', (s) => [{ s }, 0, 0]],
    ['openat', (s) => [AT_FDCWD, { s }, 0, 0]],
    ['openat2', (s) => [AT_FDCWD, { s }, { zeros: 24 }, 24]],
    ['statfs', (s) => [{ s }, out]],
    ['getxattr', (s) => [{ s }, { s: 'user.a' }, out, 64]],
    ['chdir', (s) => [{ s }]],
    ['mkdir', (s) => [{ s }, 0o700]],
    ['unlink', (s) => [{ s }]],
    ['rename', (s) => [{ s }, { s }]],
    ['execve', (s) => [{ s }, 0, 0]],
    ['inotify_add_watch', (s) => [3, { s }, 2]],
  ];

  it('below the folder of an allowed file: its server hears no name, in any phase', async (ctx) => {
    const mounted = newFolder('below');
    const model = path.join(folder, 'local.gguf');
    writeFileSync(model, Buffer.alloc(4096, 'GGUF'));
    const server = await FileServer.mount(ctx, mounted);
    const engine = await Attacked.start(place.folder, { files: [model, place.data] });
    for (const phase of ['start', 'data', 'sealed']) {
      if (phase === 'data') await engine.touchModel();
      if (phase === 'sealed') await engine.sealed();
      for (const [call, args] of asks) {
        const name = path.join(mounted, `secret-${phase}-${call}`);
        const seen = await engine.provoke(async () => {
          expect([name, (await engine.call(call, ...args(name))).result]).toEqual([name, -1]);
        });
        expect(seen).toMatchObject([{ operation: call, count: 1 }]);
        expect(seen[0]?.target).toContain(name);
      }
    }
    expect(await server.heard(mounted, 'marker')).toEqual([]);
    // The control: the same look without a warden tells the server.
    expect(await server.heard(mounted, 'secret-by-a-shell')).toEqual(['marker']);
    await engine.end();
  });

  it('a model on it is refused before an engine starts', async (ctx) => {
    const mounted = newFolder('model');
    await FileServer.mount(ctx, mounted);
    await expect(
      Attacked.start(place.folder, { files: [path.join(mounted, 'model.gguf')] }),
    ).rejects.toMatchObject({
      code: 'sandbox.remote_file',
      message: expect.stringContaining('FUSE') as string,
    });
  });

  it('mounted over the folder of an allowed file while the engine runs: not served, no other name heard', async (ctx) => {
    const covered = newFolder('covered');
    const model = path.join(covered, 'model.gguf');
    writeFileSync(model, Buffer.alloc(8192, 'GGUF'));
    const engine = await Attacked.start(place.folder, { files: [model] });
    const server = await FileServer.mount(ctx, covered);
    expect((await engine.call('openat', AT_FDCWD, { s: model }, 0)).result).toBe(-1);
    await engine.call('stat', { s: path.join(covered, 'secret') }, out);
    await engine.call('openat', AT_FDCWD, { s: `${model}/../secret` }, 0);
    expect(await engine.filesRead()).not.toContain(model);
    const heard = await server.heard(covered, 'marker');
    expect(heard.filter((name) => name !== 'model.gguf')).toEqual([]);
    await engine.end();
  });

  it('file systems are told apart by what the kernel says of them', async (ctx) => {
    expect(remoteFileSystem(statfsSync('/proc').type)).toBeUndefined();
    expect(remoteFileSystem(statfsSync(place.folder).type)).toBeUndefined();
    const mounted = newFolder('kind');
    await FileServer.mount(ctx, mounted);
    const { stdout } = await run('stat', ['--file-system', '--format=%t', mounted]);
    expect(remoteFileSystem(Number.parseInt(stdout, 16))).toBe('FUSE');
  });
});
