/** What is said of a wrong clock, and that the line which sets it is one. */
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { clockSkew, setClock } from '../src/clock.ts';

const NOON = Date.UTC(2026, 10, 24, 12, 30, 5);
const told = (aheadSeconds: number, platform = 'linux-x64') =>
  clockSkew({ whose: "node b's clock", platform, aheadSeconds, coordinatorMs: NOON });

it('says whose, by how much, and the line that sets it', () => {
  expect([told(0), told(-60), told(Number.NaN)]).toEqual([undefined, undefined, undefined]);
  expect(told(4_200)?.message).toBe("node b's clock is 1 h 10 min ahead of the coordinator's");
  expect(told(-75)?.message).toBe("node b's clock is 75 s behind the coordinator's");
  expect(told(-600)?.message).toContain('10 min behind');
  expect(told(3.1 * 86_400)?.message).toContain('3 days 2 h ahead');
  expect(told(4_200)?.next).toContain("sudo date -u -s '2026-11-24 12:30:05'");
  // `date` of macOS: mmddHHMMYYYY.SS
  expect(told(4_200, 'darwin-arm64')?.next).toContain('sudo date -u 112412302026.05');
});

it.runIf(process.platform === 'linux')('date(1) takes it', () => {
  const when = /'([^']+)'/.exec(setClock('linux', NOON))?.[1] ?? '';
  expect(execFileSync('date', ['-u', '-d', when, '+%s'], { encoding: 'utf8' }).trim()).toBe(
    String(NOON / 1000),
  );
});
