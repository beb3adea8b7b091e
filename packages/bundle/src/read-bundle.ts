/** What a bundle says of itself, read from its first bytes; believed only after the whole archive has its digest. */
import { open, stat } from 'node:fs/promises';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { createGunzip } from 'node:zlib';
import { extract } from 'tar-stream';
import { TOP_FOLDER } from './contents.ts';
import { fileDigest } from './digests.ts';
import { asPlatform, type Platform } from './pins.ts';

/** BUNDLE is the first file: it is small, and so is what stands before it. */
const HEAD_BYTES = 64 * 1024;
const FACTS_BYTES_MAX = 4096;

export interface BundleFacts {
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly version: string;
  readonly platform: Platform;
  /** The folder that installing makes below `versions`. */
  readonly folder: string;
}

/** Throws `bundle.no_archive`, `bundle.digest`, `bundle.not_a_bundle`, or the signal's reason. */
export async function checkBundle(
  file: string,
  digest: string,
  signal: AbortSignal,
): Promise<BundleFacts> {
  const facts = await stat(file).catch(() => undefined);
  if (facts?.isFile() !== true)
    throw new MinikeepError('bundle.no_archive', `there is no file ${file}`, {
      next: 'Name the archive that `minikeep bundle` made: --bundle FILE',
      exitCode: EXIT.usage,
    });
  const sha256 = await fileDigest(file, signal);
  if (sha256 !== digest.toLowerCase())
    throw new MinikeepError(
      'bundle.digest',
      `${file} has the digest ${sha256}, not ${digest.slice(0, 80)}: it is damaged, cut short, or another archive`,
      { next: 'Copy it again, and compare with what `minikeep bundle` printed.' },
    );
  const text = await firstText(file);
  const value = (key: string): string =>
    new RegExp(`^${key}=([\\w.+-]+)$`, 'm').exec(text)?.[1] ?? '';
  if (value('format') !== '1' || value('version') === '') throw notABundle(file);
  const platform = asPlatform(value('platform'));
  return {
    file,
    sha256,
    bytes: facts.size,
    version: value('version'),
    platform,
    folder: `${value('version')}-${platform}-${sha256.slice(0, 12)}`,
  };
}

async function firstText(file: string): Promise<string> {
  const handle = await open(file);
  const head = Buffer.alloc(HEAD_BYTES);
  const { bytesRead } = await handle.read(head, 0, HEAD_BYTES, 0);
  await handle.close();
  const tar = extract();
  const gunzip = createGunzip();
  try {
    return await new Promise<string>((resolve, reject) => {
      // The head ends in the middle of something: only what comes before that is asked for.
      const fail = (): void => reject(notABundle(file));
      tar.on('error', fail);
      gunzip.on('error', fail);
      tar.on('finish', fail);
      tar.on('entry', ({ name, size }, stream) => {
        if (name !== `${TOP_FOLDER}/BUNDLE` || (size ?? 0) > FACTS_BYTES_MAX) return fail();
        const pieces: Buffer[] = [];
        stream.on('data', (piece) => pieces.push(piece as Buffer));
        stream.on('end', () => resolve(Buffer.concat(pieces).toString('utf8')));
      });
      gunzip.pipe(tar);
      gunzip.write(head.subarray(0, bytesRead));
      gunzip.flush(() => setImmediate(() => setImmediate(fail)));
    });
  } finally {
    gunzip.destroy();
    tar.destroy();
  }
}

const notABundle = (file: string): MinikeepError =>
  new MinikeepError('bundle.not_a_bundle', `${file} is not a bundle that this version knows`, {
    next: 'Make one: minikeep bundle FILE --platform linux-x64 (or darwin-arm64)',
  });
