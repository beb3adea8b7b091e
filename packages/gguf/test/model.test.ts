/** Models as files: what can be wrong with a path, split models, digests, and very large files. */
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeModel, modelDigest, openModel } from '../src/index.ts';
import { key, makeFile, start, tensor, tinyLlama } from './support.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-gguf-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function file(name: string, bytes: Uint8Array): string {
  const full = path.join(folder, name);
  writeFileSync(full, bytes);
  return full;
}

const tiny = (): Uint8Array => {
  const { keys, tensors } = tinyLlama(3);
  return makeFile(keys, tensors);
};

test('a model is described from its header', async () => {
  const model = await openModel(file('m.gguf', tiny()));
  expect(describeModel(model)).toMatchObject({
    architecture: 'llama',
    name: 'tiny',
    layers: 3,
    embedding_length: 8,
    tokenizer: 'llama',
    vocabulary: 40,
    template: '{{ messages }}',
    quantisation: 'F16',
    size_bytes: tiny().length,
  });
});

test('paths that are no model', async () => {
  const expectCode = (name: string) =>
    openModel(path.join(folder, name)).then(
      () => 'opened',
      (error: { code: string }) => error.code,
    );
  expect(await expectCode('absent.gguf')).toBe('gguf.not_found');
  expect(await expectCode('.')).toBe('gguf.not_a_file');
  file('plain', tiny());
  expect(await expectCode('plain/inside')).toBe('gguf.not_found');
  file('empty.gguf', new Uint8Array(0));
  expect(await expectCode('empty.gguf')).toBe('gguf.empty');
  // A pipe nobody writes to must not hold us.
  execFileSync('mkfifo', [path.join(folder, 'pipe')]);
  expect(await expectCode('pipe')).toBe('gguf.not_a_file');
  file('nameless.gguf', makeFile([key('general.name', 'string', 'x')], []));
  expect(await expectCode('nameless.gguf')).toBe('gguf.architecture_missing');
});

test('a file that this user may not read', async () => {
  const secret = file('secret.gguf', tiny());
  chmodSync(secret, 0);
  chmodSync(folder, 0o755);
  const root = process.geteuid?.() === 0;
  // Root may read anything: become nobody for a moment.
  if (root) process.seteuid?.(65_534);
  try {
    await expect(openModel(secret)).rejects.toMatchObject({ code: 'gguf.permission' });
  } finally {
    if (root) process.seteuid?.(0);
  }
});

function splitParts(count: number): string[] {
  const { keys, tensors } = tinyLlama(3);
  const per = Math.ceil(tensors.length / count);
  return Array.from({ length: count }, (_, i) => {
    const split = [
      key('split.no', 'uint16', i),
      key('split.count', 'uint16', count),
      key('split.tensors.count', 'int32', tensors.length),
    ];
    const name = `m-${String(i + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`;
    const part = tensors.slice(i * per, (i + 1) * per);
    return file(name, makeFile(i === 0 ? [...keys, ...split] : split, part));
  });
}

test('a split model is one model, whichever part is named', async () => {
  const parts = splitParts(3);
  const whole = await openModel(file('whole.gguf', tiny()));
  for (const part of parts) {
    const model = await openModel(part);
    expect(model.files.map((f) => f.path)).toEqual(parts);
    expect([...model.tensors.keys()].toSorted()).toEqual([...whole.tensors.keys()].toSorted());
    expect(model.metadata.get('general.name')?.value).toBe('tiny');
  }
});

test('a split model with a part missing, swapped, renamed or repeated', async () => {
  const parts = splitParts(3);
  const [first = '', second = '', third = ''] = parts;
  rmSync(third);
  await expect(openModel(first)).rejects.toMatchObject({ code: 'gguf.split_missing' });
  execFileSync('cp', [second, third]);
  await expect(openModel(first)).rejects.toMatchObject({ code: 'gguf.split_mismatch' });
  const renamed = path.join(folder, 'renamed.gguf');
  execFileSync('cp', [first, renamed]);
  await expect(openModel(renamed)).rejects.toMatchObject({ code: 'gguf.split_name' });
  const repeated = makeFile(
    [key('split.no', 'uint16', 2), key('split.count', 'uint16', 3)],
    [tensor('output_norm.weight', [8])],
  );
  writeFileSync(third, repeated);
  await expect(openModel(first)).rejects.toMatchObject({ code: 'gguf.tensor_duplicate' });
});

test('parts are given up as soon as they hold too many tensors together', async () => {
  // The third part is not there: whoever reads on complains about that.
  for (const part of [0, 1]) {
    const keys = [
      key('general.architecture', 'string', 'llama'),
      key('split.no', 'uint16', part),
      key('split.count', 'uint16', 3),
    ];
    const tensors = Array.from({ length: 33_000 }, (_, i) => tensor(`p${part}.${i}`, [1]));
    file(`many-0000${part + 1}-of-00003.gguf`, makeFile(keys, tensors));
  }
  await expect(openModel(path.join(folder, 'many-00001-of-00003.gguf'))).rejects.toMatchObject({
    code: 'gguf.limit',
  });
});

test('the digest is that of the bytes, and tells when the file changes', async () => {
  const bytes = tiny();
  const name = file('m.gguf', bytes);
  const model = await openModel(name);
  const seen: number[] = [];
  const digest = await modelDigest(model, (done) => seen.push(done));
  expect(digest).toBe(createHash('sha256').update(bytes).digest('hex'));
  expect(seen.at(-1)).toBe(bytes.length);
  await expect(modelDigest(model, undefined, AbortSignal.abort())).rejects.toThrow(/abort/i);
  writeFileSync(name, Uint8Array.from([...bytes, 0]));
  await expect(modelDigest(model)).rejects.toMatchObject({ code: 'gguf.changed' });
});

test('a terabyte costs no more than its header', async () => {
  const name = file('huge.gguf', tiny());
  truncateSync(name, 2 ** 40);
  const model = await openModel(name);
  expect(model.tensors.size).toBe(10);
  // A header that claims to go on forever is read in pieces, and given up at the limit.
  const endless = file('endless.gguf', start(0, 2));
  truncateSync(endless, 2 ** 40);
  const before = process.memoryUsage().rss;
  await expect(openModel(endless)).rejects.toMatchObject({ code: 'gguf.key' });
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
});

test('a process that may open no more files says so, and does not blame the disk', () => {
  const source = path.resolve(import.meta.dirname, '../src/index.ts');
  const script = `
    import { openSync } from 'node:fs';
    import { openModel } from ${JSON.stringify(source)};
    try { for (;;) openSync('/dev/null'); } catch {}
    await openModel(process.argv[1]).catch((error) => console.log(error.code, error.next));`;
  const limited = 'ulimit -n 200 && exec "$@"';
  const node = [process.execPath, '--input-type=module', '--eval', script];
  const said = execFileSync('/bin/sh', ['-c', limited, 'sh', ...node, file('m.gguf', tiny())], {
    encoding: 'utf8',
    cwd: import.meta.dirname,
  });
  expect(said).toMatch(/^system\.too_many_files Raise the limit of open files/);
});
