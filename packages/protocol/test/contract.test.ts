/** The contract in proto/: clean, unbroken, and the committed code is what it makes. Needs no network. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const BUF = path.join(ROOT, 'node_modules/.bin/buf');
const temp = mkdtempSync(path.join(tmpdir(), 'minikeep-contract-'));
afterAll(() => rmSync(temp, { recursive: true, force: true }));

function buf(...args: string[]): string {
  const done = spawnSync(BUF, args, { cwd: ROOT, encoding: 'utf8' });
  return `${done.status} ${done.stdout}${done.stderr}`.trim();
}

const git = (...args: string[]) => spawnSync('git', args, { cwd: ROOT, maxBuffer: 64 << 20 });

/** The contract as the last commit had it that this one could break; undefined without git or history. */
function before(folder: string): string | undefined {
  const dirty = git('status', '--porcelain', '--', 'proto').stdout?.length !== 0;
  const commit = dirty ? 'HEAD' : 'HEAD^';
  const archive = git('archive', '--format=tar', commit, 'proto');
  if (archive.status !== 0) return undefined;
  execFileSync('tar', ['-x', '-C', folder], { input: archive.stdout });
  return path.join(folder, 'proto');
}

const treeOf = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => [name, readFileSync(path.join(folder, name), 'utf8')]),
  );

describe('the contract', () => {
  it('passes buf lint', () => {
    expect(buf('lint')).toBe('0');
  });

  it('breaks nothing that the last commit promised', (ctx) => {
    const old = before(temp) ?? '';
    if (old === '') ctx.skip('no git history with a contract to compare with');
    expect(buf('breaking', 'proto', '--against', old)).toBe('0');
  });

  it('a removed field would be seen', (ctx) => {
    const old = before(temp) ?? '';
    if (old === '') ctx.skip('no git history with a contract to compare with');
    const file = path.join(old, 'minikeep/v1/data_plane.proto');
    const more = readFileSync(file, 'utf8').replace(
      'bytes payload = 1;',
      'bytes payload = 1;\n  bytes more = 9;',
    );
    execFileSync('tee', [file], { input: more, stdio: ['pipe', 'ignore', 'inherit'] });
    expect(buf('breaking', 'proto', '--against', old)).toMatch(/^100 .*field "9"/s);
  });

  it('made the committed code', () => {
    const out = path.join(temp, 'generated');
    execFileSync(process.execPath, [path.join(ROOT, 'scripts/generate.mjs'), out], { cwd: ROOT });
    expect(treeOf(out)).toEqual(treeOf(path.join(ROOT, 'packages/protocol/src/generated')));
  });
});
