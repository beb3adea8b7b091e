// The doctor: facts of a real Linux and of a recorded Mac, and a finding with a command for everything that is wrong.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { installationFacts } from '../src/collect.ts';
import { darwinFacts, darwinLinks, parseFileVault, parsePmset } from '../src/darwin-facts.ts';
import { blocks, findingsOf, MACHINE, type Finding, type MachineFacts } from '../src/index.ts';
import { defaultLink, linuxFacts } from '../src/linux-facts.ts';
import { ANSWERS, IFCONFIG, HARDWARE_PORTS, recordedMac } from './recorded.ts';

const GIB = 1024 ** 3;

/** A Linux machine with which nothing is wrong. */
const SOUND: MachineFacts = {
  platform: 'linux',
  minikeep_version: '0.1.0',
  node_version: '26.10.0',
  node_pinned: '26.10.0',
  is_root: false,
  is_service: false,
  now_seconds: Date.UTC(2027, 0, 1) / 1000,
  memory_bytes: 64 * GIB,
  memory_available_bytes: 60 * GIB,
  installation: { folder: '/opt/minikeep/current', bundled: true, damaged: [] },
  disks: [{ what: 'slices', path: '/var', free_bytes: 100 * GIB }],
  ports: [{ port: 7420, free: true }],
  system: {
    version: '6.18',
    links: [{ name: 'eth0', kind: 'ethernet', active: true, megabits_per_second: 1000 }],
    default_link: 'eth0',
    quarantined: [],
    unread: [],
  },
  sandbox: { ok: true, mechanism: 'seccomp', missing: [] },
  engine: { started: true, llama_version: '0.4.0', backends: ['cpu'], devices: [], denials: [] },
  model_check: { status: 'exact', backend: 'cpu' },
};
const GPU = { name: 'MTL0', description: 'Apple M4 Pro', kind: 'gpu', memory_bytes: 48 * GIB };
const MAC: MachineFacts = {
  ...SOUND,
  platform: 'darwin',
  engine: {
    started: true,
    llama_version: '0.4.0',
    backends: ['metal'],
    devices: [GPU],
    denials: [],
  },
  system: {
    ...SOUND.system,
    version: '15.3.1',
    power: { sleep_minutes: 0, disk_sleep_minutes: 0, restarts: true, wakes_for_network: true },
    filevault: false,
    wired_limit_mebibytes: 0,
  },
};
const system = (base: MachineFacts, changes: Partial<MachineFacts['system']>): MachineFacts => ({
  ...base,
  system: { ...base.system, ...changes },
});
const of = (facts: MachineFacts, id: string): Finding[] =>
  findingsOf(facts).filter((one) => one.id === id);

describe('findings', () => {
  it('are all in order on a sound machine', () => {
    for (const facts of [SOUND, { ...MAC, is_service: true }]) {
      expect(blocks(findingsOf(facts))).toBe(false);
      expect(findingsOf(facts).filter((one) => one.level === 'warning')).toEqual([]);
    }
  });

  const wifi = { name: 'en1', kind: 'wifi', active: true } as const;
  const ethernet = { name: 'en0', kind: 'ethernet', active: true } as const;
  it.each<[string, MachineFacts, string, Finding['level'], RegExp]>([
    [
      'another Node',
      { ...SOUND, node_version: '24.1.0' },
      'version.node',
      'warning',
      /own command/,
    ],
    [
      'a damaged file',
      { ...SOUND, installation: { ...SOUND.installation, damaged: ['dist/warden.mjs'] } },
      'files',
      'blocks',
      /install\.sh/,
    ],
    [
      'an old macOS',
      system(MAC, { version: '13.6' }),
      'version.system',
      'blocks',
      /softwareupdate/,
    ],
    ['little memory', { ...SOUND, memory_bytes: 4 * GIB }, 'memory', 'warning', /./],
    [
      'a wired limit of nearly all',
      system(MAC, { wired_limit_mebibytes: 64_000 }),
      'memory.wired_limit',
      'warning',
      /sysctl iogpu\.wired_limit_mb=57344/,
    ],
    [
      'no sandbox',
      {
        ...SOUND,
        sandbox: {
          ok: false,
          mechanism: 'none',
          missing: [{ what: 'no seccomp', next: 'another kernel' }],
        },
      },
      'sandbox',
      'blocks',
      /another kernel/,
    ],
    [
      'an engine that dies',
      { ...SOUND, engine: { started: false, why: 'killed', next: 'look' } },
      'engine',
      'blocks',
      /look/,
    ],
    ['a Mac without a GPU', { ...MAC, engine: SOUND.engine }, 'gpu', 'blocks', /./],
    [
      'a difference',
      { ...SOUND, model_check: { status: 'differs', by: 0.25, backend: 'x' } },
      'model_check',
      'warning',
      /model check/,
    ],
    ['a clock before its time', { ...SOUND, now_seconds: 0 }, 'clock', 'blocks', /date/],
    [
      'a full disk',
      { ...SOUND, disks: [{ what: 'slices', path: '/var', free_bytes: 1000 }] },
      'disk',
      'blocks',
      /du -sh/,
    ],
    [
      'a nearly full disk',
      { ...SOUND, disks: [{ what: 'slices', path: '/var', free_bytes: 5 * GIB }] },
      'disk',
      'warning',
      /du -sh/,
    ],
    [
      'Wi-Fi alone',
      system(MAC, { links: [wifi], default_link: 'en1' }),
      'links',
      'warning',
      /cable/,
    ],
    [
      'Wi-Fi in place of Ethernet',
      system(MAC, { links: [ethernet, wifi], default_link: 'en1' }),
      'links',
      'warning',
      /setairportpower en1 off/,
    ],
    ['no link', system(SOUND, { links: [] }), 'links', 'warning', /cable/],
    [
      'a slow cable',
      system(SOUND, { links: [{ ...ethernet, megabits_per_second: 100 }] }),
      'links',
      'warning',
      /category 5e/,
    ],
    [
      'sleep',
      system(MAC, { power: { sleep_minutes: 10 } }),
      'sleep',
      'warning',
      /pmset -a sleep 0/,
    ],
    ['FileVault', system(MAC, { filevault: true }), 'filevault', 'warning', /fdesetup/],
    [
      'a firewall that asks',
      system(MAC, { firewall: true }),
      'firewall',
      'warning',
      /socketfilterfw/,
    ],
    ['quarantine', system(MAC, { quarantined: ['/a'] }), 'quarantine', 'warning', /xattr -dr/],
    ['local-network privacy', MAC, 'local_network', 'note', /Local Network/],
    ['a port in use', { ...SOUND, ports: [{ port: 7420, free: false }] }, 'ports', 'note', /lsof/],
  ])('name %s and what mends it', (_, facts, id, level, next) => {
    const [found, ...more] = of(facts, id);
    expect(more).toEqual([]);
    expect(found).toMatchObject({ level });
    expect(found?.next).toMatch(next);
    expect(blocks(findingsOf(facts))).toBe(level === 'blocks');
  });

  it('show what was refused before the model was open', () => {
    const engine = { ...SOUND.engine, denials: ['read open /etc/hosts'] } as MachineFacts['engine'];
    expect(of({ ...SOUND, engine }, 'engine.denials')[0]?.what).toContain('read open /etc/hosts');
  });
});

describe('a Mac (recorded)', () => {
  it('says all that its commands said', async () => {
    const facts = await darwinFacts(recordedMac(), ['/a/node', '/a/koffi.node']);
    expect(facts).toMatchObject({
      version: '14.2.1',
      chip: 'Apple M4 Pro',
      wired_limit_mebibytes: 0,
      default_link: 'en0',
      power: { sleep_minutes: 10, disk_sleep_minutes: 10, restarts: true, wakes_for_network: true },
      filevault: true,
      firewall: true,
      quarantined: ['/a/node'],
      unread: [],
    });
    expect(facts.links.map(({ name, kind, active }) => [name, kind, active])).toEqual([
      ['en0', 'ethernet', true],
      ['en1', 'wifi', false],
      ['en2', 'thunderbolt', false],
    ]);
  });

  it('with commands that fail or say something else is unknown, not sound', async () => {
    const none = { code: 1, stdout: '', stderr: 'not permitted' };
    const facts = await darwinFacts(
      recordedMac(Object.fromEntries(Object.keys(ANSWERS).map((key) => [key, none]))),
      ['/a/node'],
    );
    expect(facts).toMatchObject({ version: '', links: [], quarantined: [] });
    expect([facts.power, facts.filevault, facts.firewall, facts.wired_limit_mebibytes]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(facts.unread.length).toBeGreaterThan(5);
    expect(facts.unread.join()).toContain('not permitted');
    expect(parsePmset('nothing known')).toBeUndefined();
    expect(parseFileVault('Deferred enablement appears to be active')).toBeUndefined();
    expect(darwinLinks(HARDWARE_PORTS, IFCONFIG.replaceAll('active', 'unknown'))[0]?.active).toBe(
      false,
    );
  });
});

describe('this machine', () => {
  it.runIf(process.platform === 'linux')('is read without an error', async () => {
    const facts = await linuxFacts(MACHINE);
    expect(facts.version).toMatch(/^\d+\./);
    for (const link of facts.links) expect(link.name).not.toBe('lo');
  });

  it('takes the default route with the lowest metric', () => {
    const table = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
`;
    expect(defaultLink(table)).toBe('eth0');
    expect(defaultLink('')).toBeUndefined();
  });

  it('finds the files that are not those that were installed', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-doctor-test-'));
    try {
      const signal = new AbortController().signal;
      expect(await installationFacts(folder, signal)).toMatchObject({ bundled: false });
      mkdirSync(path.join(folder, 'dist'));
      for (const name of ['dist/a', 'dist/b']) writeFileSync(path.join(folder, name), name);
      const sum = (name: string): string =>
        `${createHash('sha256').update(name).digest('hex')}  ${name}\n`;
      writeFileSync(
        path.join(folder, 'SHA256SUMS'),
        ['dist/a', 'dist/b', 'dist/gone', '../x'].map(sum).join(''),
      );
      writeFileSync(path.join(folder, 'dist/b'), 'changed');
      expect((await installationFacts(folder, signal)).damaged).toEqual([
        'dist/b',
        'dist/gone',
        'SHA256SUMS',
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
