/** PutSlice: the messages of one transfer, in their order, into the store. */
import { MinikeepError } from '@minikeep/protocol';
import type { PutSliceRequest, PutSliceResponse } from '@minikeep/protocol/v1';
import type { SliceChunk, SliceStore } from './slice-store.ts';

/** Larger than any slice, smaller than what a double counts exactly. */
const SLICE_BYTES_MAX = 16 * 2 ** 40;

export async function receiveSlice(
  store: SliceStore,
  request: AsyncIterable<PutSliceRequest>,
): Promise<PutSliceResponse> {
  const messages = request[Symbol.asyncIterator]();
  const first = await messages.next();
  const start = first.done === true ? undefined : first.value.part;
  if (start?.$case !== 'start') throw outOfOrder('a transfer begins with its start');
  const { deployment, bytes, offset } = start.value;
  if (offset !== 0 || bytes > SLICE_BYTES_MAX)
    throw outOfOrder('its offset or size is not possible');
  let digest = '';
  async function* chunks(): AsyncGenerator<SliceChunk> {
    for (;;) {
      const next = await messages.next();
      if (next.done === true) throw outOfOrder('it ended without its digest');
      const { part } = next.value;
      if (part?.$case === 'end') {
        digest = part.value.sha256;
        return;
      }
      if (part?.$case !== 'chunk') throw outOfOrder('a second start');
      yield part.value;
    }
  }
  const stored = await store.put(deployment, bytes, chunks(), () => digest);
  return stored;
}

function outOfOrder(why: string): MinikeepError {
  return new MinikeepError('store.slice_rejected', `a slice was not stored: ${why}`, {
    next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
  });
}
