/** systemd's unit, read by systemd's own checker, and installed on a machine of namespaces whose process 1 is systemd. */
import { needCommand, needNamespaces, REPOSITORY } from '@minikeep/testkit';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  planService,
  THIS_MACHINE,
  unitText,
  type Machine,
  type ServiceOptions,
} from '../src/index.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-service-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const options = (change: Partial<ServiceOptions> = {}): ServiceOptions => ({
  home: '/var/lib/minikeep',
  program: '/opt/minikeep/bin/minikeep',
  node: '/opt/minikeep/node',
  version: '0.1.0',
  readLog: false,
  keepPower: false,
  ...change,
});

/** What systemd turns into a filter of system calls (systemd.exec(5)): it would answer before an engine's warden. */
const FILTERS =
  /^(SystemCall\w+|RestrictAddressFamilies|RestrictNamespaces|RestrictRealtime|RestrictSUIDSGID|LockPersonality|MemoryDenyWriteExecute|PrivateDevices|ProtectClock|ProtectKernelModules|ProtectKernelTunables|ProtectKernelLogs|ProtectHostname|ProtectProc)=/m;

describe('the unit', () => {
  it('has no filter that would hide attempts from the warden, no capability and no root', () => {
    const text = unitText(options(), 'minikeep', 'minikeep');
    expect(text).not.toMatch(FILTERS);
    expect(text).toMatch(/^CapabilityBoundingSet=$/m);
    expect(text).toMatch(/^NoNewPrivileges=yes$/m);
    expect(text).toMatch(/^User=minikeep$/m);
    expect(text).toMatch(/^ProtectSystem=strict$/m);
    expect(text).toMatch(/^OOMPolicy=continue$/m);
  });

  it.for(['plain', 'with space', 'per%cent', 'dollar$HOME'])(
    'is a unit that systemd reads without a word: %s',
    (name, ctx): void => {
      const analyze = ['/usr/bin/systemd-analyze', '/bin/systemd-analyze'].find((f) =>
        existsSync(f),
      );
      if (analyze === undefined)
        return ctx.skip('not here: systemd-analyze (a machine with systemd)');
      const program = path.join(folder, name);
      writeFileSync(program, '#!/bin/sh\n');
      chmodSync(program, 0o755);
      const unit = path.join(folder, 'minikeep.service');
      writeFileSync(
        unit,
        unitText(options({ program, home: `${folder}/${name} home` }), 'daemon', 'daemon'),
      );
      const said = spawnSync(analyze, ['verify', '--man=no', unit], { encoding: 'utf8' });
      const ours = said.stderr.split('\n').filter((line) => line.includes('minikeep'));
      expect(ours).toEqual([]);
    },
  );
});

describe('a machine without a service manager', () => {
  it('is told what to do instead', async () => {
    const machine: Machine = {
      ...THIS_MACHINE,
      platform: 'linux',
      stat: (file) => (file === '/run/systemd/system' ? undefined : THIS_MACHINE.stat(file)),
    };
    await expect(planService(machine, options())).rejects.toMatchObject({
      code: 'service.no_manager',
      next: expect.stringMatching(/container.*minikeep start --background/),
    });
  });
});

describe('on a machine with systemd', () => {
  it('installs, outlives a killed process and a reboot, and remove leaves nothing', (ctx) => {
    needNamespaces(ctx);
    needCommand(ctx, 'sshd', 'openssh-server');
    const program = path.join(REPOSITORY, 'packages/service/test/service-life.mjs');
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
        program,
        place,
        REPOSITORY,
      ],
      { encoding: 'utf8', timeout: 400_000 },
    );
    const document = JSON.parse(said.stdout.trim().split('\n').at(-1) || '{}') as {
      skipped?: string;
      steps?: unknown[];
      error?: string;
    };
    if (document.skipped !== undefined) ctx.skip(`not here: ${document.skipped}`);
    expect(document.error, said.stderr).toBeUndefined();
    expect(document.steps, said.stderr).toMatchInlineSnapshot(`
      [
        "before: 3",
        "installed: systemd minikeep running true enabled true",
        "users: minikeep minikeep",
        "capabilities: 5",
        "filter: Seccomp: 0",
        "root asks as the owner: mini-1",
        "after a kill: running, restarts 1",
        "after a reboot: running true",
        "removed: false 1 root",
        "left in /etc: ",
      ]
    `);
    expect(execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })).not.toContain('minikeep');
  }, 450_000);
});
