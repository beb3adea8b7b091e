// install.sh on a machine without Node, npm and network: what it installs works, and what goes wrong leaves nothing.
import { needRoot, onlyOn } from '@minikeep/testkit';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { MadeBundle } from '../src/index.ts';
import { bareTools, bundleFor, DIST, NODE, runBare } from './bundle-helpers.ts';

const linux = process.platform === 'linux' && process.arch === 'x64';

describe.runIf(linux)('install.sh', () => {
  let folder = '';
  let made: MadeBundle;
  let tools = '';
  let script = '';
  let prefix = '';
  let count = 0;

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'minikeep-install-'));
    chmodSync(folder, 0o755);
    tools = bareTools(folder);
    made = await bundleFor(folder);
    script = path.join(folder, 'install.sh');
    // As the help says: out of the archive, whose digest was compared.
    const taken = spawnSync('tar', ['-xzOf', made.file, 'minikeep/install.sh']);
    writeFileSync(script, taken.stdout);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  beforeEach(() => {
    prefix = path.join(folder, `prefix-${++count}`);
  });

  const install = (
    more: readonly string[] = [],
    options: Parameters<typeof runBare>[2] & { archive?: string; digest?: string } = {},
  ) =>
    runBare(
      tools,
      [
        path.join(tools, 'sh'),
        script,
        options.archive ?? made.file,
        '--digest',
        options.digest ?? made.sha256,
        '--prefix',
        prefix,
        '--bin',
        path.join(prefix, '..', `bin-${count}`),
        ...more,
      ],
      options,
    );

  /** The error's code, and that it is one error with what to do next. */
  function refusal(result: ReturnType<typeof runBare>): string {
    const [first = '', next = '', ...rest] = result.stderr
      .split('\n')
      .filter((line) => line !== '' && !/^(checking|unpacking) /.test(line));
    expect(rest, result.stderr).toEqual([]);
    expect(next).toMatch(/^ {2}next: ./);
    expect(result.status).not.toBe(0);
    return /^error (install\.\w+): /.exec(first)?.[1] ?? result.stderr;
  }

  /** A bundle in small, whose Node is this one: what goes wrong must not depend on the size. */
  function small(change: (top: string) => void = () => {}): { archive: string; digest: string } {
    const work = mkdtempSync(path.join(folder, 'small-'));
    const top = path.join(work, 'minikeep');
    const files: Record<string, string> = {
      'bin/minikeep': readFileSync(path.join(DIST, 'minikeep.sh'), 'utf8'),
      'dist/minikeep.mjs': "console.log('0.1.0')",
      'dist/warden.mjs': '1',
      'node/bin/node': `#!${path.join(tools, 'sh')}\nexec '${NODE}' "$@"\n`,
      BUNDLE: 'format=1\nversion=0.1.0\nplatform=linux-x64\nbytes=1000\nfiles=6\n',
    };
    let sums = '';
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(top, name)), { recursive: true });
      writeFileSync(path.join(top, name), text, { mode: 0o755 });
      sums += `${createHash('sha256').update(text).digest('hex')}  ${name}\n`;
    }
    writeFileSync(path.join(top, 'SHA256SUMS'), sums);
    change(top);
    const archive = path.join(work, 'small.tar.gz');
    const packed = spawnSync('tar', ['-czf', archive, '-C', work, 'minikeep']);
    expect(packed.status).toBe(0);
    return { archive, digest: createHash('sha256').update(readFileSync(archive)).digest('hex') };
  }

  it('installs without Node, npm and network, and again, and what it installed runs', (ctx) => {
    needRoot(ctx);
    const alone = ['/usr/bin/unshare', '--net'];
    const first = install([], { before: alone });
    expect(first.stderr).not.toContain('error');
    expect(first.status).toBe(0);
    const command = path.join(folder, `bin-${count}`, 'minikeep');
    const version = runBare(tools, [command, '--version'], { before: alone });
    expect(version.stdout).toBe(`${made.version}\n`);
    // The engine, its libraries, the sandbox and the embedded model: all from what was unpacked.
    const asked = runBare(
      tools,
      [command, 'run', 'What is a stage?', '--max-tokens', '3', '--json'],
      {
        before: [
          '/usr/bin/unshare',
          '--net',
          '/bin/sh',
          '-c',
          '/sbin/ip link set lo up; exec "$@"',
          'sh',
        ],
      },
    );
    expect(asked.stdout, asked.stderr).toContain('"type":"done"');
    const again = install([], { before: alone });
    expect(again.status, again.stderr).toBe(0);
    expect(again.stderr).toContain('every file sound');
    expect(readdirSync(path.join(prefix, 'versions'))).toHaveLength(1);
    expect(readlinkSync(path.join(prefix, 'current'))).toMatch(
      /^versions\/0\.1\.0-linux-x64-[0-9a-f]{12}$/,
    );
  });

  it('mends a damaged installation, keeps an older version, and leaves another program alone', () => {
    mkdirSync(path.join(prefix, 'versions/0.0.1-old'), { recursive: true });
    symlinkSync('versions/0.0.1-old', path.join(prefix, 'current'));
    const bin = path.join(folder, `bin-${count}`);
    mkdirSync(bin);
    writeFileSync(path.join(bin, 'minikeep'), 'of somebody else');
    const bundle = small();
    const first = install([], bundle);
    expect(first.status, first.stderr).toBe(0);
    expect(first.stdout).toContain('the version before is still there');
    expect(readFileSync(path.join(bin, 'minikeep'), 'utf8')).toBe('of somebody else');
    const [name = ''] = readdirSync(path.join(prefix, 'versions')).filter(
      (n) => !n.endsWith('old'),
    );
    appendFileSync(path.join(prefix, 'versions', name, 'dist/warden.mjs'), ' ');
    const mended = install([], bundle);
    expect(mended.stderr).toContain('unpacking');
    expect(mended.status, mended.stderr).toBe(0);
    expect(install([], bundle).stderr).toContain('every file sound');
    expect(readdirSync(path.join(prefix, 'versions')).toSorted()).toEqual(['0.0.1-old', name]);
  });

  it('refuses a damaged, a cut and another archive, before anything is unpacked', () => {
    const copy = path.join(folder, 'copy.tar.gz');
    cpSync(made.file, copy);
    const content = readFileSync(made.file);
    const middle = content.length >> 1;
    content[middle] = (content[middle] ?? 0) ^ 1;
    writeFileSync(copy, content);
    expect(refusal(install([], { archive: copy }))).toBe('install.digest');
    writeFileSync(copy, content.subarray(0, middle));
    expect(refusal(install([], { archive: copy }))).toBe('install.digest');
    expect(refusal(install([], { digest: 'ab'.repeat(32) }))).toBe('install.digest');
    expect(refusal(install([], { digest: 'no' }))).toBe('install.usage');
    expect(refusal(install([], { archive: '/nowhere' }))).toBe('install.no_archive');
    expect(existsSync(prefix)).toBe(false);
  });

  it('refuses a file that is not the one of the list', () => {
    const bad = small((top) => appendFileSync(path.join(top, 'dist/warden.mjs'), 'x'));
    const result = install([], bad);
    expect(refusal(result)).toBe('install.file');
    expect(result.stderr).toContain('dist/warden.mjs');
    expect(existsSync(prefix)).toBe(false);
  });

  it('refuses another platform, and what is no bundle', () => {
    const facts = `format=1\nversion=0.1.0\nplatform=darwin-arm64\nbytes=1\nfiles=1\n`;
    const other = small((top) => {
      for (const name of readdirSync(top)) rmSync(path.join(top, name), { recursive: true });
      writeFileSync(path.join(top, 'BUNDLE'), facts);
    });
    const wrong = install([], other);
    expect(refusal(wrong)).toBe('install.wrong_platform');
    expect(wrong.stderr).toContain('--platform linux-x64');
    const none = small((top) => rmSync(path.join(top, 'BUNDLE')));
    expect(refusal(install([], none))).toBe('install.not_a_bundle');
    expect(existsSync(prefix)).toBe(false);
  });

  it('removes what a killed installation left, and waits for a running one', () => {
    const left = path.join(prefix, 'versions/.new-999999999');
    mkdirSync(left, { recursive: true });
    const bundle = small();
    expect(install([], bundle).status).toBe(0);
    expect(existsSync(left)).toBe(false);
    mkdirSync(path.join(prefix, `versions/.new-${process.pid}`));
    expect(refusal(install([], bundle))).toBe('install.busy');
  });

  it('refuses a program that does not start here, and keeps the version that did', () => {
    expect(install([], small()).status).toBe(0);
    const before = readlinkSync(path.join(prefix, 'current'));
    const dead = small((top) => {
      const text = 'x';
      writeFileSync(path.join(top, 'node/bin/node'), text);
      const sums = path.join(top, 'SHA256SUMS');
      const digest = createHash('sha256').update(text).digest('hex');
      const lines = readFileSync(sums, 'utf8').replace(/^.{64}(?= {2}node\/bin\/node$)/m, digest);
      writeFileSync(sums, lines);
    });
    expect(refusal(install([], dead))).toBe('install.start');
    expect(readlinkSync(path.join(prefix, 'current'))).toBe(before);
    expect(readdirSync(path.join(prefix, 'versions'))).toHaveLength(1);
  });

  it('refuses a folder that it may not write, and says sudo', (ctx) => {
    needRoot(ctx);
    mkdirSync(prefix, { mode: 0o755 });
    const result = install([], { uid: 65_534 });
    expect(refusal(result)).toBe('install.no_permission');
    expect(result.stderr).toContain('sudo ');
    expect(readdirSync(prefix)).toEqual([]);
  });

  it('refuses a disk without room before and while unpacking, and leaves nothing', (ctx) => {
    onlyOn(ctx, 'linux');
    needRoot(ctx);
    mkdirSync(prefix);
    const disk = (megabytes: number): readonly string[] => [
      '/usr/bin/unshare',
      '--mount',
      '/bin/sh',
      '-c',
      `/bin/mount -t tmpfs -o size=${megabytes}m none '${prefix}' && "$@"; s=$?; /bin/ls -A '${prefix}'; exit $s`,
      'sh',
    ];
    const early = install([], { before: disk(50) });
    expect(refusal(early)).toBe('install.no_space');
    expect(early.stdout).toBe('versions\n');
    // df that says too much: the disk fills up on the way.
    rmSync(path.join(tools, 'df'));
    writeFileSync(path.join(tools, 'df'), '#!/bin/sh\necho; echo none 9 9 999999999 1% /\n', {
      mode: 0o755,
    });
    const late = install([], { before: disk(50) });
    expect(refusal(late)).toBe('install.no_space');
    expect(late.stdout).toBe('versions\n');
  });
});
