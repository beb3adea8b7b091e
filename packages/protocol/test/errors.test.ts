/** What a user reads when something went wrong that nobody wrote an error for. */
import { mkdtempSync, readFileSync, rmSync, writeSync, openSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { MinikeepError, toMinikeepError } from '../src/index.ts';

const thrownBy = (does: () => unknown): unknown => {
  try {
    does();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};

it('keeps an error of ours', () => {
  const ours = new MinikeepError('a.b', 'what', { next: 'do' });
  expect(toMinikeepError(ours)).toBe(ours);
});

it.runIf(process.platform === 'linux')(
  'says a full disk as one, not as a fault of minikeep',
  () => {
    const full = openSync('/dev/full', 'w');
    try {
      const error = toMinikeepError(thrownBy(() => writeSync(full, 'x')));
      expect(error).toMatchObject({ code: 'system.disk_full', exitCode: 1 });
      expect(error.next).toContain('TMPDIR');
    } finally {
      closeSync(full);
    }
  },
);

it('says of anything else that it is a fault, and keeps the cause', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-errors-'));
  try {
    const thrown = thrownBy(() => readFileSync(folder));
    const error = toMinikeepError(thrown);
    expect(error).toMatchObject({ code: 'internal.unexpected', cause: thrown });
    expect(toMinikeepError('text').message).toBe('text');
    expect(toMinikeepError(new Error('')).message).not.toBe('');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
