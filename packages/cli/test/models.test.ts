/** `model import`, `list` and `rm` with the real program on a home that nobody uses. */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomModelFile } from '@minikeep/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jsonError, minikeep } from './minikeep.ts';

const scratch = mkdtempSync(path.join(tmpdir(), 'minikeep-models-cli-'));
const home = path.join(scratch, 'home');
const file = path.join(scratch, 'tiny.gguf');
let sha256 = '';

beforeAll(async () => {
  copyFileSync(await randomModelFile('llama', { layers: 4 }), file);
  sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');
  const made = await minikeep(['init', '--home', home, '--name', 'lab', '--json']);
  expect(made.stderr).toBe('');
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('model import', { timeout: 60_000 }, () => {
  it('shows what would run, and takes nothing in that nobody accepted', async () => {
    const asked = await minikeep(['model', 'import', file, '--home', home]);
    expect(asked.code).toBe(2);
    for (const shown of [
      'licence',
      'llama, 4 layers',
      'quantisation',
      'tokenizer',
      'template',
      sha256,
    ])
      expect(asked.stdout).toContain(shown);
    expect(asked.stderr).toContain('model.not_accepted');
    expect(asked.stderr).toContain(`--sha256 ${sha256}`);
    const other = await minikeep([
      'model',
      'import',
      file,
      '--home',
      home,
      '--json',
      '--sha256',
      'ab'.repeat(32),
    ]);
    expect([other.code, jsonError(other).code, other.stdout]).toEqual([
      5,
      'model.digest_differs',
      '',
    ]);
    const listed = await minikeep(['model', 'list', '--home', home, '--json']);
    expect(JSON.parse(listed.stdout)).toEqual({ models: [] });
  });

  it('takes it in with --sha256, lists it, forgets it', async () => {
    const done = await minikeep([
      'model',
      'import',
      file,
      '--home',
      home,
      '--json',
      '--sha256',
      sha256,
    ]);
    expect(done.stderr).toBe('');
    expect(JSON.parse(done.stdout)).toMatchObject({
      name: 'tiny',
      sha256,
      path: file,
      copied: false,
    });
    const listed = await minikeep(['model', 'list'], { env: { MINIKEEP_HOME: home } });
    expect(listed.stdout).toMatch(/^NAME.*\ntiny .*llama/);
    const removed = await minikeep(['model', 'rm', 'tiny', '--home', home]);
    expect([removed.code, removed.stdout]).toEqual([0, `Removed tiny. Its file stays: ${file}\n`]);
    expect(existsSync(file)).toBe(true);
    const again = await minikeep(['model', 'rm', 'tiny', '--home', home, '--json']);
    expect([again.code, jsonError(again).code]).toEqual([2, 'model.unknown']);
  });

  it('with a home that is none says what to do', async () => {
    const bad = await minikeep(['model', 'list', '--home', scratch, '--json']);
    expect([bad.code, jsonError(bad).code]).toEqual([2, 'home.no_cluster']);
  });
});
