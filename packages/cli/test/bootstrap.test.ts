/** `minikeep bootstrap`: stack files that are wrong, and two machines of namespaces with a real sshd each. */
import { makeBundle } from '@minikeep/bundle';
import { needCommand, needNamespaces, REPOSITORY } from '@minikeep/testkit';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { jsonError, minikeep } from './minikeep.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-bootstrap-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const HARDWARE = 'hardware: { memory: 8 GiB }';

describe('what is wrong before any machine is touched', () => {
  const cases: [name: string, stack: string, code: string, says: RegExp][] = [
    [
      'an unknown key, with its line',
      `cluster: lab\nnodes:\n  - name: a\n    role: coordinator\n    colour: red\n    ${HARDWARE}\n`,
      'stack.invalid',
      /line 5: nodes\[0\]\.colour is no key/,
    ],
    [
      'a machine that is there twice',
      `cluster: lab\nnodes:\n  - { name: a, role: coordinator, ssh: { host: h1 }, ${HARDWARE} }\n  - { name: b, ssh: { host: h1 }, ${HARDWARE} }\n`,
      'stack.invalid',
      /line 4: .*h1/,
    ],
    [
      'an address that is none',
      `cluster: lab\nnodes:\n  - { name: a, role: coordinator, ssh: { host: 10.0.0.300 }, ${HARDWARE} }\n`,
      'stack.invalid',
      /line 3: .*no IPv4 address/,
    ],
    [
      'an address that ssh would take for an option',
      `cluster: lab\nnodes:\n  - { name: a, role: coordinator, ssh: { host: -oProxyCommand=x }, ${HARDWARE} }\n`,
      'stack.invalid',
      /line 3/,
    ],
    [
      'a machine without a way in',
      `cluster: lab\nnodes:\n  - { name: a, role: coordinator, ${HARDWARE} }\n`,
      'bootstrap.no_ssh',
      /a$/,
    ],
  ];
  it.each(cases)('%s', async (name, stack, code, says) => {
    const file = path.join(folder, `${name.replaceAll(' ', '-')}.yaml`);
    writeFileSync(file, stack);
    const ended = await minikeep(['bootstrap', file, '--json']);
    expect(ended.code).toBe(2);
    const error = jsonError(ended);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(says);
  });

  it('a bundle without its digest, with another one, or that is none', async () => {
    const stack = path.join(folder, 'good.yaml');
    writeFileSync(
      stack,
      `cluster: lab\nnodes:\n  - { name: a, role: coordinator, platform: linux, ssh: { host: h1 }, ${HARDWARE} }\n`,
    );
    const bundle = path.join(folder, 'not-a-bundle.tar.gz');
    writeFileSync(bundle, 'x'.repeat(1000));
    const run = async (...args: string[]): Promise<string> =>
      jsonError(await minikeep(['bootstrap', stack, '--json', ...args])).code;
    expect(await run('--bundle', bundle)).toBe('usage.digest');
    expect(await run('--bundle', `${bundle}.gone`, '--digest', 'a'.repeat(64))).toBe(
      'bundle.no_archive',
    );
    expect(await run('--bundle', bundle, '--digest', 'a'.repeat(64))).toBe('bundle.digest');
    const digest = spawnSync('sha256sum', [bundle], { encoding: 'utf8' }).stdout.slice(0, 64);
    expect(await run('--bundle', bundle, '--digest', digest)).toBe('bundle.not_a_bundle');
  });
});

interface Outcome {
  readonly code: number;
  readonly steps: readonly string[];
  readonly nodes: readonly { name: string; state: string; did: string[]; error: string | null }[];
  readonly byHand: readonly string[];
}

describe('two machines with sshd', () => {
  it('are set up from a bundle; what went wrong is named, and the next run goes on from there', async (ctx) => {
    needNamespaces(ctx);
    needCommand(ctx, 'sshd', 'openssh-server');
    needCommand(ctx, 'ssh', 'openssh-client');
    const advisories = path.join(folder, 'advisories.json');
    writeFileSync(
      advisories,
      JSON.stringify({
        status: 'not_asked',
        date: '2026-11-23',
        reason: 'a test',
        covers: 'nothing',
        packages_asked: 0,
        advisories: [],
      }),
    );
    const made = await makeBundle({
      file: path.join(folder, 'minikeep.tar.gz'),
      platform: 'linux-x64',
      distFolder: path.join(REPOSITORY, 'dist'),
      nodeFile: process.execPath,
      cacheFolder: path.join(folder, 'cache'),
      advisoriesFile: advisories,
      now: new Date(0),
      signal: new AbortController().signal,
      note: () => {},
      onProgress: () => {},
    });
    const place = path.join(folder, 'machines');
    mkdirSync(place);
    const said = spawnSync(
      'unshare',
      [
        '--mount',
        '--net',
        '--pid',
        '--fork',
        '--kill-child',
        '--mount-proc',
        process.execPath,
        path.join(REPOSITORY, 'packages/cli/test/bootstrap-life.mjs'),
        place,
        REPOSITORY,
        made.file,
        made.sha256,
      ],
      { encoding: 'utf8', timeout: 500_000 },
    );
    const outcome = JSON.parse(said.stdout || '{}') as Record<string, never>;
    expect(outcome['error'], said.stderr).toBeUndefined();
    const first = outcome['first'] as unknown as Outcome;
    expect(first.code, JSON.stringify(first)).toBe(1);
    expect(first.nodes).toEqual([
      { name: 'mini-1', state: 'failed', did: [], error: 'ssh.host_key_changed' },
      { name: 'mini-2', state: 'failed', did: [], error: 'ssh.unreachable' },
    ]);
    const second = outcome['second'] as unknown as Outcome;
    expect(second.nodes).toEqual([
      { name: 'mini-1', state: 'up', did: ['installed'], error: null },
      { name: 'mini-2', state: 'up', did: ['installed', 'joined'], error: null },
    ]);
    expect(second.byHand.join()).toContain('nothing on mini-1 manages services');
    expect(second.code).toBe(0);
    const again = outcome['again'] as unknown as Outcome;
    expect(again.nodes.flatMap(({ did }) => did)).toEqual([]);
    expect(again.steps.join()).not.toContain('copying');
    expect(outcome['otherName']).toMatchObject([
      { error: 'bootstrap.other_cluster' },
      { error: 'bootstrap.coordinator_failed' },
    ]);
    expect(outcome['nodes']).toEqual(['mini-1 up', 'mini-2 up']);
    expect(JSON.stringify(outcome['leftBehind'])).not.toContain('bootstrap');
  }, 600_000);
});
