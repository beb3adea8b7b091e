/** The cluster's models: what is offered, accepted, kept, found again without the disk, and forgotten. */
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openModel, pieceDigest, planSlices, sharedPieces, digestPiece } from '@minikeep/gguf';
import { Home, State } from '@minikeep/state';
import { randomModelFile } from '@minikeep/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ModelLibrary,
  acceptOffer,
  findModelFile,
  forgetModel,
  libraryFolder,
  listedModels,
  modelNamed,
  nameFromFile,
  offerModel,
  type ModelOffer,
  type ModelRow,
} from '../src/index.ts';

let folder = '';
let home: Home;
let state: State;
let library: ModelLibrary;
let file = '';

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-models-'));
  home = Home.open(path.join(folder, 'home'));
  state = State.open(home, Date.now);
  library = new ModelLibrary(libraryFolder(home.folder));
  file = path.join(folder, 'Tiny Llama.Q8.gguf');
  copyFileSync(await randomModelFile('llama', { layers: 4 }), file);
});
afterEach(() => {
  state.close();
  home.close();
  rmSync(folder, { recursive: true, force: true });
});

const sha256Of = (name: string): string =>
  createHash('sha256').update(readFileSync(name)).digest('hex');

const take = (offer: ModelOffer, copy = false): Promise<ModelRow> =>
  acceptOffer(library, state, offer, offer.sha256, { copy, nowMs: 1_000 });

describe('an offer', () => {
  it('says what would run, and changes nothing', async () => {
    const offer = await offerModel(library, file, undefined);
    expect(offer).toMatchObject({
      name: 'tiny-llama.q8',
      sha256: sha256Of(file),
      report: { architecture: 'llama', layers: 4, files: 1, size_bytes: statSync(file).size },
    });
    expect(offer.report.warnings).toEqual([]);
    const mute = await randomModelFile('llama', { layers: 4, vocabulary: 'none' });
    const { report } = await offerModel(library, mute, 'mute');
    expect(report).toMatchObject({ vocabulary: expect.any(Number) as number, template_sha256: '' });
    expect(report.warnings.join(' ')).toMatch(/no tokenizer/);
    expect(await listedModels(library, state)).toEqual([]);
  });

  it('is accepted by its digest only, and nothing changes otherwise', async () => {
    const offer = await offerModel(library, file, 'm');
    const options = { copy: true, nowMs: 1 };
    for (const [accepted, code] of [
      ['ab'.repeat(32), 'model.digest_differs'],
      ['yes', 'model.digest_invalid'],
      ['', 'model.digest_invalid'],
    ] as const)
      await expect(acceptOffer(library, state, offer, accepted, options)).rejects.toMatchObject({
        code,
      });
    expect(state.events(1, 10)).toEqual([]);
    await acceptOffer(library, state, offer, `SHA256:${offer.sha256.toUpperCase()}`, options);
    expect(state.events(1, 10).map((event) => event.kind)).toEqual(['model.imported']);
  });

  it('of a changed file has another digest', async () => {
    const before = await offerModel(library, file, 'm');
    appendFileSync(file, 'x');
    const after = await offerModel(library, file, 'm');
    expect(after.sha256).toBe(sha256Of(file));
    expect(after.sha256).not.toBe(before.sha256);
    // What was offered before is no longer there to be taken in.
    await expect(take(before)).rejects.toMatchObject({ code: 'gguf.changed' });
    await expect(take(before, true)).rejects.toMatchObject({ code: 'gguf.changed' });
    expect(await listedModels(library, state)).toEqual([]);
  });

  it.each([
    ['an empty file', (at: string) => writeFileSync(at, ''), 'gguf'],
    ['a folder without a model', (at: string) => mkdirSync(at), 'model.none_in_folder'],
    ['a missing file', () => {}, 'model.not_found'],
  ])('is not made of %s', async (_, make, code) => {
    const at = path.join(folder, 'bad');
    make(at);
    await expect(offerModel(library, at, 'm')).rejects.toMatchObject({
      code: expect.stringContaining(code) as string,
    });
  });
});

describe('a folder', () => {
  it('names its only model, also one in parts; several must be named', async () => {
    const parts = path.join(folder, 'parts');
    mkdirSync(parts);
    for (const i of [1, 2, 3]) writeFileSync(path.join(parts, `r1-0000${i}-of-00003.gguf`), '');
    writeFileSync(path.join(parts, 'readme.md'), '');
    const found = await findModelFile(parts);
    expect(path.basename(found)).toBe('r1-00001-of-00003.gguf');
    expect(nameFromFile(found)).toBe('r1');
    writeFileSync(path.join(parts, 'other.gguf'), '');
    await expect(findModelFile(parts)).rejects.toMatchObject({
      code: 'model.several_in_folder',
      message: expect.stringContaining('other.gguf') as string,
    });
  });

  it('a file without a usable name needs one', () => {
    expect(() => nameFromFile('/x/模型.gguf')).toThrow(/--name|name of a model/);
    expect(nameFromFile('/x/__A b__.GGUF')).toBe('a-b');
  });
});

describe('an imported model', () => {
  it('is listed, stays where it is, and is forgotten without losing its file', async () => {
    await take(await offerModel(library, file, 'm'));
    const [listed] = await listedModels(library, state);
    expect(listed).toMatchObject({ name: 'm', path: file, present: true, copied: false });
    expect(listed?.report).toMatchObject({ layers: 4 });
    expect(modelNamed(state, 'm').sha256).toBe(sha256Of(file));
    await forgetModel(library, state, 'm');
    expect(existsSync(file)).toBe(true);
    expect(await listedModels(library, state)).toEqual([]);
    expect(() => modelNamed(state, 'm')).toThrow(
      expect.objectContaining({ code: 'model.unknown' }) as Error,
    );
    await expect(forgetModel(library, state, 'm')).rejects.toMatchObject({ code: 'model.unknown' });
  });

  it('can be copied; the copy goes with it', async () => {
    const row = await take(await offerModel(library, file, 'm'), true);
    expect(sha256Of(row.path)).toBe(sha256Of(file));
    rmSync(file);
    const [listed] = await listedModels(library, state);
    expect(listed).toMatchObject({ present: true, copied: true });
    await forgetModel(library, state, 'm');
    expect(existsSync(row.path)).toBe(false);
  });

  it('can be planned while its disk is away, and is found again', async () => {
    const offer = await offerModel(library, file, 'm');
    await take(offer);
    const whole = await openModel(file);
    renameSync(file, `${file}.away`);
    const away = await library.importedSource(offer.sha256, file);
    expect(away.data).toBe(undefined);
    expect(away.missing).toContain(file);
    // What is kept takes next to no room, and makes the same plan.
    expect(planSlices(away.model, [2]).map((slice) => slice.bytes)).toEqual(
      planSlices(whole, [2]).map((slice) => slice.bytes),
    );
    const kept = readdirSync(path.join(library.folder, 'models', offer.sha256, 'header'));
    const { blocks } = statSync(
      path.join(library.folder, 'models', offer.sha256, 'header', kept[0] ?? ''),
    );
    expect(blocks * 512).toBeLessThan(whole.sizeBytes / 2);
    const [listed] = await listedModels(library, state);
    expect(listed).toMatchObject({ present: false });
    renameSync(`${file}.away`, file);
    const back = await library.importedSource(offer.sha256, file);
    expect(back.data?.files[0]?.path).toBe(file);
    appendFileSync(file, 'x');
    const changed = await library.importedSource(offer.sha256, file);
    expect(changed.missing).toMatch(/no longer the file/);
  });

  it('has the digests of all its pieces', async () => {
    const offer = await offerModel(library, file, 'm');
    await take(offer);
    const { known } = await library.importedSource(offer.sha256, file);
    const model = await openModel(file);
    for (const piece of sharedPieces(model)) {
      const digests = await digestPiece(model, piece);
      expect(known.pieces.get(piece.name)).toEqual({
        bytes: piece.bytes,
        digest: Buffer.from(pieceDigest(digests)).toString('hex'),
      });
      expect(await known.chunksOf(piece.name)).toEqual(digests.chunks);
    }
    // A damaged list is not believed; a damaged index is made anew.
    const pieces = path.join(library.folder, 'models', offer.sha256, 'pieces');
    const bytes = readFileSync(pieces);
    bytes[bytes.byteLength - 1] = (bytes.at(-1) ?? 0) ^ 1;
    writeFileSync(pieces, bytes);
    const last = [...known.pieces.keys()].at(-1) ?? '';
    expect(await known.chunksOf(last)).toBe(undefined);
    writeFileSync(pieces, 'nonsense');
    await expect(library.importedSource(offer.sha256, file)).rejects.toMatchObject({
      code: 'model.unknown_pieces',
    });
    await offerModel(library, file, 'm');
    expect((await library.importedSource(offer.sha256, file)).known.pieces.size).toBeGreaterThan(3);
  });

  it('keeps its name: the same again is no fault, another content is', async () => {
    const offer = await offerModel(library, file, 'm');
    await take(offer);
    const moved = path.join(folder, 'moved.gguf');
    renameSync(file, moved);
    await take(await offerModel(library, moved, 'm'));
    expect(modelNamed(state, 'm').path).toBe(moved);
    appendFileSync(moved, 'x');
    await expect(take(await offerModel(library, moved, 'm'))).rejects.toMatchObject({
      code: 'model.exists',
    });
    // Two names for one content: forgetting one leaves the other whole.
    await take(await offerModel(library, moved, 'n'));
    await take(await offerModel(library, moved, 'o'));
    await forgetModel(library, state, 'n');
    expect(
      (await listedModels(library, state)).map(({ name, report }) => [name, report?.layers]),
    ).toEqual([
      ['m', 4],
      ['o', 4],
    ]);
  });

  it('that is up is not forgotten', async () => {
    await take(await offerModel(library, file, 'm'));
    const deploy = (wanted: string): void =>
      state.write(({ database }) => {
        database
          .prepare(`INSERT OR REPLACE INTO deployments VALUES ('d', 'm', 1, ?, '{}')`)
          .run(wanted);
      });
    deploy('up');
    await expect(forgetModel(library, state, 'm')).rejects.toMatchObject({ code: 'model.in_use' });
    expect((await listedModels(library, state))[0]?.report?.layers).toBe(4);
    deploy('down');
    await forgetModel(library, state, 'm');
    expect(await listedModels(library, state)).toEqual([]);
  });
});

describe('digests of models that nobody imported', () => {
  it('are kept up to a bound, imported ones always', async () => {
    const offer = await offerModel(library, file, 'm');
    await take(offer);
    const all = path.join(library.folder, 'models');
    for (let i = 0; i < 40; i++)
      mkdirSync(path.join(all, i.toString(16).padStart(64, '0')), { recursive: true });
    await library.bound(new Set([offer.sha256]));
    expect(readdirSync(all).length).toBe(33);
    expect(readdirSync(all)).toContain(offer.sha256);
  });

  it('come from one reading: a second time nothing is read', async () => {
    const model = await openModel(file);
    let read = 0;
    const count = (done: number): number => (read = done);
    await library.fingerprint(model, count);
    expect(read).toBe(model.sizeBytes);
    read = 0;
    await library.fingerprint(model, count);
    expect(read).toBe(0);
  });
});
