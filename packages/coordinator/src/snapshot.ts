/** Sends the database as it is at one instant, for a backup: only this process has it open. */
import { randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import type { SnapshotStateResponse } from '@minikeep/protocol/v1';
import type { State } from '@minikeep/state';

const MESSAGE_BYTES = 512 * 1024;

export async function* snapshot(
  state: State,
  signal: AbortSignal,
): AsyncGenerator<SnapshotStateResponse, void, undefined> {
  const file = `${state.file}.${randomBytes(8).toString('hex')}.snapshot`;
  try {
    await state.snapshot(file);
    const handle = await open(file, 'r');
    try {
      for (;;) {
        signal.throwIfAborted();
        const data = Buffer.allocUnsafe(MESSAGE_BYTES);
        const { bytesRead } = await handle.read(data, 0, MESSAGE_BYTES, null);
        if (bytesRead === 0) return;
        yield { data: data.subarray(0, bytesRead) };
      }
    } finally {
      await handle.close();
    }
  } finally {
    await rm(file, { force: true });
  }
}
