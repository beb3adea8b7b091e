/** Copies of a model's files: whole ones, or headers in files of the full size that take no room for the weights. */
import { constants } from 'node:fs';
import { copyFile, open, rename, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { openUnchanged, type Model, type ModelFile, type UnchangedSource } from '@minikeep/gguf';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { makeFolder } from '@minikeep/protocol/rpc';
import { syncFolder } from './replace-file.ts';

const COPY_BYTES = 1024 * 1024;
/** Left free on the disk, for the database and its log. */
const DISK_RESERVE_BYTES = 256 * 1024 * 1024;

/** Names that tell parts of a split model as the reader expects them. */
function copyName(model: Model, index: number): string {
  const { files } = model;
  if (files.length === 1) return 'model.gguf';
  const number = (n: number): string => String(n).padStart(5, '0');
  return `model-${number(index + 1)}-of-${number(files.length)}.gguf`;
}

/** Writes what comes before the tensors' data; the rest is a hole. */
export async function writeHeaders(model: Model, folder: string): Promise<void> {
  for (const [i, file] of model.files.entries()) {
    const data = [...model.tensors.values()].filter((tensor) => tensor.file === i);
    const headerBytes = data.reduce((min, { offset }) => Math.min(min, offset), file.sizeBytes);
    const from = await openUnchanged(file);
    const to = await open(path.join(folder, copyName(model, i)), 'wx', 0o600);
    try {
      await copyRange(from, to, headerBytes, () => {});
      await from.assertUnchanged();
      await to.truncate(file.sizeBytes);
      await to.sync();
    } finally {
      await from.close();
      await to.close();
    }
  }
  await syncFolder(folder);
}

/** Copies all files into `folder`, which is there in whole or not at all; returns the first one's path. */
export async function copyFiles(
  model: Model,
  folder: string,
  onBytes: (doneBytes: number, totalBytes: number) => void = () => {},
  signal?: AbortSignal,
): Promise<string> {
  const part = `${folder}.part`;
  await rm(part, { recursive: true, force: true });
  await makeFolder(part);
  let done = 0;
  try {
    for (const [i, file] of model.files.entries()) {
      await copyOne(file, path.join(part, copyName(model, i)), model.sizeBytes - done, (n) => {
        signal?.throwIfAborted();
        onBytes(done + n, model.sizeBytes);
      });
      done += file.sizeBytes;
      onBytes(done, model.sizeBytes);
    }
    await rm(folder, { recursive: true, force: true });
    await rename(part, folder);
    await syncFolder(path.dirname(folder));
    return path.join(folder, copyName(model, 0));
  } catch (error) {
    await rm(part, { recursive: true, force: true });
    throw error;
  }
}

async function copyOne(
  file: ModelFile,
  target: string,
  leftBytes: number,
  onBytes: (doneBytes: number) => void,
): Promise<void> {
  const from = await openUnchanged(file);
  try {
    if (!(await cloned(file, target))) {
      await checkRoom(path.dirname(target), leftBytes);
      const to = await open(target, 'wx', 0o400);
      try {
        await copyRange(from, to, file.sizeBytes, onBytes);
        await to.sync();
      } finally {
        await to.close();
      }
    }
    await from.assertUnchanged();
  } finally {
    await from.close();
  }
}

/** File systems that share blocks (APFS, btrfs, XFS) copy at once and for free. */
async function cloned(file: ModelFile, target: string): Promise<boolean> {
  try {
    await copyFile(file.path, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch {
    await rm(target, { force: true });
    return false;
  }
}

type Handle = Awaited<ReturnType<typeof open>>;

async function copyRange(
  from: UnchangedSource,
  to: Handle,
  bytes: number,
  onBytes: (doneBytes: number) => void,
): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  for (let at = 0; at < bytes;) {
    const wanted = Math.min(COPY_BYTES, bytes - at);
    const bytesRead = await from.read(at, buffer.subarray(0, wanted));
    if (bytesRead === 0)
      throw new MinikeepError(
        'gguf.truncated',
        'the model’s file became shorter while it was copied',
        {
          next: 'Wait until whatever writes it is done, then try again.',
        },
      );
    for (let done = 0; done < bytesRead;)
      done += (await to.write(buffer, done, bytesRead - done, at + done)).bytesWritten;
    at += bytesRead;
    onBytes(at);
  }
}

async function checkRoom(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes + DISK_RESERVE_BYTES) return;
  const gib = (n: number): string => `${(n / 2 ** 30).toFixed(2)} GiB`;
  throw new MinikeepError(
    'model.disk_full',
    `a copy of ${gib(bytes)} does not fit into ${path.dirname(folder)} (${gib(free)} free)`,
    {
      next: 'Import without --copy, or free space there.',
      exitCode: EXIT.failed,
      details: { needed_bytes: bytes, free_bytes: free },
    },
  );
}
