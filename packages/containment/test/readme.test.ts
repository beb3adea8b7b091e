// The README's table of attacks names tests: all of them exist, and no row of WARDEN.md is missing.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { REPOSITORY } from '@minikeep/testkit';
import { describe, expect, it } from 'vitest';

const FOLDER = path.join(REPOSITORY, 'packages/containment');
const ROWS = 28;
const rows = readFileSync(path.join(FOLDER, 'README.md'), 'utf8')
  .split('\n')
  .filter((line) => /^\| \d+ \|/.test(line))
  .map((line) => line.split('|').map((cell) => cell.trim()))
  .map(([, row, , file, tests]) => ({
    row: Number(row),
    file: file?.replaceAll('`', '') ?? '',
    tests: [...(tests ?? '').matchAll(/`([^`]+)`/g)].map((m) => m[1] ?? ''),
  }));

/** The titles of the tests of a file, as they are written. */
function titlesOf(file: string): string[] {
  const text = readFileSync(path.join(FOLDER, 'test', `${file}.test.ts`), 'utf8');
  // A title stands behind the bracket, or on the next line.
  return [...text.matchAll(/(?:\bit|\))\(\s*(?:'((?:[^'\\]|\\.)*)'|"([^"]*)"|`([^`]*)`)/g)].map(
    (m) => m[1]?.replaceAll("\\'", "'") ?? m[2] ?? m[3] ?? '',
  );
}

describe("the README's table of attacks", () => {
  it('has every row', () => {
    expect([...new Set(rows.map(({ row }) => row))]).toEqual(
      Array.from({ length: ROWS }, (_, i) => i + 1),
    );
  });

  it.each(rows)('row $row, $file: each test exists', ({ file, tests }) => {
    expect(tests.length).toBeGreaterThan(0);
    const titles = titlesOf(file);
    for (const test of tests) expect(titles).toContain(test);
  });

  it('attacks run a second time for an ordinary user', () => {
    for (const { file } of rows.filter((row) => row.file.startsWith('attacks-')))
      expect(
        existsSync(path.join(FOLDER, 'test', `${file.replace('attacks', 'user')}.test.ts`)),
      ).toBe(true);
  });
});
