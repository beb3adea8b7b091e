// Nothing in a start may wait for itself: a thread with the filter asks the warden, so no such thread may be needed to
// hand over what the warden answers with. And an answer, once decided, arrives, whatever signals meet it.
import { existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hostArch, X64 } from '../src/linux/arch.ts';
import { machineUidCandidates } from '../src/linux/identity.ts';
import { handshake, startLauncher } from '../src/linux/launcher-client.ts';
import { Attacked, DIST, hostileFolder } from './hostile/attacked.ts';

let place: ReturnType<typeof hostileFolder>;
beforeAll(() => {
  if (process.platform === 'linux') place = hostileFolder();
});
afterAll(() => place?.cleanUp());
beforeEach((ctx) => onlyOn(ctx, 'linux'));

describe('the launcher', () => {
  it('filters one thread, which only becomes the engine; the one that hands over has none', async () => {
    const wires = { stdin: openSync('/dev/null', 'r'), stdout: openSync('/dev/null', 'w') };
    const launcher = path.join(DIST, 'launcher.mjs');
    const started = startLauncher(process.execPath, launcher, hostArch(), wires);
    const isRoot = process.geteuid?.() === 0;
    const steps: string[] = [];
    try {
      const { pid } = await handshake(
        started,
        hostArch(),
        {
          uids: isRoot ? machineUidCandidates(process.pid) : [],
          is_root: isRoot,
          argv: ['--version'],
          env: [],
          threads_max: 64,
          warden_pid: process.pid,
        },
        (step) => steps.push(step),
      );
      // Nobody answers: the engine's thread stands at execveat, if it has come so far.
      const filtered = readdirSync(`/proc/${pid}/task`).filter((tid) =>
        /^Seccomp:\t2$/m.test(readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8')),
      );
      expect(filtered).toHaveLength(1);
      expect(filtered).not.toContain(String(pid));
      expect(steps).toEqual(['launcher', 'rights', 'filter', 'program']);
    } finally {
      started.child.kill('SIGKILL');
    }
  });
});

describe('answers', () => {
  it('all arrive under a hail of signals, while threads ask at once', async () => {
    const engine = await Attacked.start(place.folder, { limits: { violations_max: 1e9 } });
    const { pid } = engine.sandbox;
    const warden = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    const page = (await engine.call('mmap', 0, 4096, 7, 0x22, -1, 0)).result;
    const nr = X64.numbers['getppid'] ?? -1;
    expect(await engine.order('plantAsking', { page, nr })).toEqual({ planted: true });
    expect(await engine.order('lightBomb', { page, threads: 6 })).toEqual({ started: 6 });
    let sent = 0;
    let hailing = true;
    const hail = (): void => {
      for (let i = 0; i < 20; i++) process.kill(warden, i % 2 === 0 ? 'SIGTERM' : 'SIGHUP');
      sent += 20;
      if (hailing) setTimeout(hail, 1);
    };
    hail();
    const opens = `let wrong = 0;
      for (let i = 0; i < 100; i++) {
        const fd = fs.openSync(${JSON.stringify(place.data)});
        if (fd < 3) wrong++;
        else fs.closeSync(fd);
      }
      return { wrong };`;
    try {
      for (let round = 0; round < 5; round++) {
        const asked = await engine.order('flood', { nr, args: [], times: 200 }, 60_000);
        expect(asked).toEqual({ refused: 0 });
        expect(await engine.order('js', { code: opens }, 60_000)).toEqual({ wrong: 0 });
      }
    } finally {
      hailing = false;
    }
    expect(sent).toBeGreaterThan(100);
    expect(existsSync(`/proc/${warden}`)).toBe(true);
    expect(await engine.end()).toMatchObject({ reason: 'the test is over' });
  });
});
