// Real processes: a start in which one computes is waited for, a start that hangs is an error that says where.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hostArch } from '../src/linux/arch.ts';
import { makePipe } from '../src/linux/libc.ts';
import { START_STEPS, type StartStep } from '../src/warden/control.ts';
import { launchUnder, supportUnder, type WardenHost } from '../src/warden-client.ts';

describe('a start', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'minikeep-patience-'));
    chmodSync(folder, 0o755);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  beforeEach((ctx) => onlyOn(ctx, 'linux'));

  /** A warden that goes so far, then does as the code says. */
  function host(code: string, patience: WardenHost['patience']): WardenHost {
    const program = path.join(folder, 'warden.mjs');
    writeFileSync(
      program,
      `process.stdin.resume();
       const say = (message) => process.stdout.write(JSON.stringify(message) + '\\n');
       ${code}`,
    );
    return {
      platform: 'linux',
      mechanism: 'none',
      program,
      check: () => undefined,
      makePipe: () => makePipe(hostArch().numbers),
      ...(patience === undefined ? {} : { patience }),
    };
  }
  const job = { purpose: 'stage' as const, entry: '/nonexistent', args: [], files: [] };
  const impatient = { silence_ms_max: 2_000, total_ms_max: 120_000 };

  it.each(Object.keys(START_STEPS) as StartStep[])('that hangs in %s says so', async (step) => {
    const said = step === 'warden' ? '' : `say({ type: 'step', step: '${step}' });`;
    await expect(launchUnder(host(said, impatient), job)).rejects.toMatchObject({
      code: 'sandbox.start_timeout',
      message: expect.stringContaining(START_STEPS[step]) as string,
      details: { step },
    });
  });

  it('in which a process computes, or waits for a processor, is waited for', async () => {
    const slow = `
      say({ type: 'step', step: 'launcher' });
      setTimeout(() => {
        for (const end = performance.now() + 5_000; performance.now() < end; );
        say({ type: 'failed', code: 'test.through', message: 'it went on', next: '' });
      }, 100);`;
    await expect(launchUnder(host(slow, impatient), job)).rejects.toMatchObject({
      code: 'test.through',
    });
  });

  it('that computes for ever ends, too', async () => {
    const loop = "say({ type: 'step', step: 'files' }); setTimeout(() => { for (;;); }, 100);";
    const limits = { silence_ms_max: 60_000, total_ms_max: 4_000 };
    await expect(launchUnder(host(loop, limits), job)).rejects.toMatchObject({
      code: 'sandbox.start_timeout',
      message: expect.stringContaining('did not start within 4 s') as string,
      details: { step: 'files' },
    });
  });

  it('a trial that hangs says where', async () => {
    const support = await supportUnder(host("say({ type: 'step', step: 'rights' });", impatient));
    expect(support.ok).toBe(false);
    expect(support.missing[0]?.what).toContain(START_STEPS.rights);
  });
});
