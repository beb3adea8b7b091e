/** The trusted processes themselves: what stops them from starting is said in one line, with an exit code. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { MINIKEEP_VERSION } from '@minikeep/protocol';
import { needRoot, randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import manifest from '../../../package.json' with { type: 'json' };
import { startLocalCluster } from '../src/local-cluster.ts';
import { DIST, ask, deploy, failure, start, tokens, Cache } from './cluster-helpers.ts';

let folder = '';
let config: Record<string, unknown> = {};

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-start-'));
  const authority = await CertificateAuthority.throwAway('c1', Date.now());
  const issued = await authority.issue('node', 'a');
  const file = (name: string, text: string): string => {
    writeFileSync(path.join(folder, name), text, { mode: 0o600 });
    return path.join(folder, name);
  };
  config = {
    cluster: 'c1',
    node: 'a',
    listen: '127.0.0.1:0',
    credentials: {
      authority: file('ca.pem', authority.certificatePem),
      certificate: file('cert.pem', issued.certificatePem),
      privateKey: file('key.pem', issued.privateKeyPem),
    },
    store: { folder: path.join(folder, 'store'), bytes_max: 0 },
    program_folder: DIST,
    unsafe_no_sandbox: true,
    end_with_stdin: true,
  };
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function agent(changed: object): { status: number | null; code: string; stderr: string } {
  const file = path.join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ ...config, ...changed }));
  const done = spawnSync(process.execPath, [path.join(DIST, 'agent.mjs'), file], {
    encoding: 'utf8',
    input: '',
    timeout: 60_000,
  });
  const lines = done.stdout.trim().split('\n');
  expect(lines).toHaveLength(1);
  const said = JSON.parse(lines[0] ?? '') as { error?: { code: string }; type?: string };
  return { status: done.status, code: said.error?.code ?? said.type ?? '', stderr: done.stderr };
}

it('a command that may open no files more says so', () => {
  const limited = ['-c', 'ulimit -n 26 && exec "$@"', 'sh', process.execPath];
  const minikeep = [path.join(DIST, 'minikeep.mjs'), 'canary', '--json'];
  const done = spawnSync('/bin/sh', [...limited, ...minikeep], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect(JSON.parse(done.stderr)).toMatchObject({ error: { code: 'system.too_many_files' } });
});

describe('an agent', () => {
  it('names credentials that are none, or of which the key is another one', async () => {
    const file = (name: string, text: string): string => {
      writeFileSync(path.join(folder, name), text, { mode: 0o600 });
      return path.join(folder, name);
    };
    const other = await (await CertificateAuthority.throwAway('c1', Date.now())).issue('node', 'a');
    const good = config['credentials'] as Record<string, string>;
    for (const changed of [
      { privateKey: file('other.pem', other.privateKeyPem) },
      { privateKey: file('empty.pem', '') },
      { certificate: file('rubbish.pem', 'rubbish') },
      { authority: file('rubbish.pem', 'rubbish') },
    ])
      expect(agent({ credentials: { ...good, ...changed } })).toMatchObject({
        status: 1,
        code: 'identity.files_invalid',
      });
  });

  it('says where it listens, and ends with its input', () => {
    expect(agent({})).toMatchObject({ status: 0, code: 'listening' });
  });

  it('says that its port is in use', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const { port } = taken.address() as net.AddressInfo;
    expect(agent({ listen: `127.0.0.1:${port}` })).toMatchObject({
      status: 1,
      code: 'listen.port_in_use',
    });
    taken.close();
  });

  it('says that its configuration, its keys or its store are not usable', () => {
    expect(agent({ surprise: 1 })).toMatchObject({ status: 2, code: 'config.invalid' });
    const keyless = { ...(config['credentials'] as object), privateKey: path.join(folder, 'no') };
    expect(agent({ credentials: keyless })).toMatchObject({
      status: 1,
      code: 'identity.files_unreadable',
    });
    const blocked = path.join(folder, 'file');
    writeFileSync(blocked, '');
    expect(agent({ store: { folder: blocked, bytes_max: 0 } })).toMatchObject({
      status: 1,
      code: 'store.unusable',
    });
  });

  it('opens no debugger on a signal', async () => {
    const file = path.join(folder, 'config.json');
    writeFileSync(file, JSON.stringify(config));
    const cluster = await start(1, new Cache());
    const pid = cluster.nodes[0]?.pid ?? 0;
    process.kill(pid, 'SIGUSR1');
    await new Promise((resolve) => setTimeout(resolve, 500));
    const debuggerPort = await new Promise<boolean>((resolve) => {
      const socket = net.connect(9229, '127.0.0.1', () => resolve(true));
      socket.on('error', () => resolve(false));
    });
    expect(debuggerPort).toBe(false);
    expect((await cluster.operator.status({})).nodes[0]?.reachable).toBe(true);
    await cluster.stop();
  });
});

describe('a full disk while slicing', () => {
  it('ends the deployment with one clear error, and what fits still works', async (ctx) => {
    needRoot(ctx);
    const disk = path.join(folder, 'disk');
    mkdirSync(disk);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]);
    if (mounted.status !== 0) ctx.skip('needs a container that may mount: run outside of it');
    const model = await randomModelFile('llama', { layers: 16 });
    const cluster = await startLocalCluster({
      nodes: 2,
      distFolder: DIST,
      cacheFolder: disk,
    });
    try {
      const error = await failure(deploy(cluster, model));
      expect(error.code).toBe('store.disk_full');
      expect(error.details['needed_bytes']).toBeDefined();
      const parts = (): string[] =>
        spawnSync('find', [path.join(disk, 'store'), '-name', '*.part'])
          .stdout.toString()
          .split('\n')
          .filter((file) => file !== '');
      // Who met the full disk gave its part back; the other node was called off, and would go on with its own.
      expect(parts().length).toBeLessThan(2);
      spawnSync('mount', ['-o', 'remount,size=64m', disk]);
      await deploy(cluster, model);
      expect(parts()).toEqual([]);
      expect((await ask(cluster, tokens([5, 6, 7]))).ids).toHaveLength(16);
    } finally {
      await cluster.stop();
      spawnSync('umount', [disk]);
    }
  });
});

describe('the version', () => {
  it('is the one of package.json', () => {
    expect(MINIKEEP_VERSION).toBe(manifest.version);
  });
});

it('an agent that is killed by a signal at any time leaves nothing that listens', async () => {
  for (const afterMs of [5, 60, 200, 500]) {
    const file = path.join(folder, 'config.json');
    writeFileSync(file, JSON.stringify(config));
    const child = spawn(process.execPath, [path.join(DIST, 'agent.mjs'), file], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    child.kill('SIGTERM');
    const code = await new Promise((resolve) => child.once('exit', (c, s) => resolve(c ?? s)));
    expect([0, 'SIGTERM']).toContain(code);
  }
});
