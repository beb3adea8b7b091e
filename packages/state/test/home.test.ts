// A node's home: whose it is, one process at a time, key files that are whole or not there.
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Home, KEY_FILE_BYTES_MAX } from '@minikeep/state';
import { MinikeepError } from '@minikeep/protocol';
import { needRoot, onlyOn } from '@minikeep/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const OPENER = fileURLToPath(new URL('opener.ts', import.meta.url));
let parent: string;
let folder: string;

beforeEach(() => {
  parent = mkdtempSync(path.join(tmpdir(), 'minikeep-home-'));
  folder = path.join(parent, 'deep', 'home');
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

function failure(work: () => unknown): MinikeepError {
  try {
    work();
  } catch (error) {
    if (error instanceof MinikeepError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

const mode = (file: string): number => statSync(file).mode & 0o777;

describe('a home', () => {
  it('is made for its owner alone, whatever the umask', () => {
    const before = process.umask(0);
    try {
      const home = Home.open(folder);
      home.writeKey('key.pem', 'secret');
      home.close();
    } finally {
      process.umask(before);
    }
    expect(mode(folder)).toBe(0o700);
    expect(mode(path.join(folder, 'lock'))).toBe(0o600);
    expect(mode(path.join(folder, 'key.pem'))).toBe(0o600);
  });

  it('is used by one process at a time, until that one ends in any way', async () => {
    const child = spawn(process.execPath, [OPENER, folder, 'hold'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const [said] = await new Promise<[Buffer]>((r) => child.stdout.once('data', (d) => r([d])));
      expect(String(said)).toContain('opened');
      const error = failure(() => Home.open(folder));
      expect(error.code).toBe('home.in_use');
      expect(error.message).toContain(`process ${child.pid}`);
    } finally {
      const ended = new Promise((r) => child.once('exit', r));
      child.kill('SIGKILL');
      await ended;
    }
    Home.open(folder).close();
  });

  it('is not opened twice in one process, and again after it was closed', () => {
    const home = Home.open(folder);
    expect(failure(() => Home.open(folder)).code).toBe('home.in_use');
    home.close();
    Home.open(folder).close();
  });

  it('is refused when others may look into it', () => {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o750);
    const error = failure(() => Home.open(folder));
    expect(error.code).toBe('home.open_to_others');
    expect(error.next).toContain('chmod 700');
    expect(existsSync(path.join(folder, 'lock'))).toBe(false);
  });

  it('is a folder', () => {
    writeFileSync(path.join(parent, 'file'), '');
    expect(failure(() => Home.open(path.join(parent, 'file'))).code).toBe('home.not_a_folder');
    expect(failure(() => Home.open(path.join(parent, 'file', 'x'))).code).toBe('home.not_a_folder');
  });

  it('of another user is refused', (ctx) => {
    needRoot(ctx);
    Home.open(folder).close();
    chownSync(folder, 12_345, 12_345);
    expect(failure(() => Home.open(folder)).code).toBe('home.other_owner');
  });

  it('can say why it may not be made', (ctx) => {
    onlyOn(ctx, 'linux');
    // No user may make a folder there, root included.
    expect(failure(() => Home.open('/proc/self/fd/minikeep-home')).code).toBe('home.unusable');
  });

  it('loses what writers left that were ended', () => {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const left = path.join(folder, '.key.pem.0123456789abcdef.part');
    writeFileSync(left, 'half');
    writeFileSync(path.join(folder, 'other.part'), 'not ours');
    Home.open(folder).close();
    expect(existsSync(left)).toBe(false);
    expect(readFileSync(path.join(folder, 'other.part'), 'utf8')).toBe('not ours');
  });
});

describe('a key file', () => {
  let home: Home;
  beforeEach(() => (home = Home.open(folder)));
  afterEach(() => home.close());

  it('is read as it was written, replaced in whole, and removed', () => {
    expect(home.readKey('key.pem')).toBeUndefined();
    home.writeKey('key.pem', 'a long first one');
    home.writeKey('key.pem', 'second');
    expect(home.readKey('key.pem')).toBe('second');
    home.removeKey('key.pem');
    expect(home.readKey('key.pem')).toBeUndefined();
  });

  it('has no name that leads elsewhere', () => {
    for (const name of ['../key.pem', 'a/b.pem', '.hidden.pem', 'KEY.pem', 'key', 'state.db', ''])
      expect(failure(() => home.writeKey(name, 'x')).code).toBe('home.key_name_invalid');
  });

  it('is small', () => {
    const large = 'x'.repeat(KEY_FILE_BYTES_MAX + 1);
    expect(failure(() => home.writeKey('key.pem', large)).code).toBe('home.key_too_large');
    writeFileSync(path.join(folder, 'key.pem'), large, { mode: 0o600 });
    expect(failure(() => home.readKey('key.pem')).code).toBe('home.key_too_large');
  });

  it('that others may read is not used', () => {
    home.writeKey('key.pem', 'secret');
    chmodSync(path.join(folder, 'key.pem'), 0o640);
    expect(failure(() => home.readKey('key.pem')).code).toBe('home.key_open_to_others');
  });

  it('is no link, no folder', () => {
    writeFileSync(path.join(parent, 'elsewhere'), 'x', { mode: 0o600 });
    symlinkSync(path.join(parent, 'elsewhere'), path.join(folder, 'key.pem'));
    expect(failure(() => home.readKey('key.pem')).code).toBe('home.key_unreadable');
    mkdirSync(path.join(folder, 'dir.pem'), { mode: 0o700 });
    expect(failure(() => home.readKey('dir.pem')).code).toBe('home.key_unreadable');
    expect(failure(() => home.writeKey('dir.pem', 'x')).code).toBe('home.key_unwritable');
  });
});

it('a process says why it could not open a home, on one line', () => {
  writeFileSync(path.join(parent, 'file'), '');
  const ended = spawnSync(process.execPath, [OPENER, path.join(parent, 'file')], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  expect(JSON.parse(ended.stdout)).toMatchObject({ error: { code: 'home.not_a_folder' } });
});
