/** A file that is there in whole or not at all, whatever ends the process or the power. */
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** Writes the parts one after the other beside `file`, then takes its place. */
export async function replaceFile(file: string, parts: readonly Uint8Array[]): Promise<void> {
  const part = `${file}.${randomBytes(6).toString('hex')}.part`;
  try {
    const handle = await open(part, 'wx', 0o600);
    try {
      for (const data of parts)
        for (let at = 0; at < data.byteLength;)
          at += (await handle.write(data, at, data.byteLength - at)).bytesWritten;
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(part, file);
    await syncFolder(path.dirname(file));
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
