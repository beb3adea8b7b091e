/** The pipeline around the scheduler: who asks may be gone at any moment. */
import { DEFAULT_SAMPLING } from '@minikeep/protocol';
import { expect, it } from 'vitest';
import { Pipeline } from '../src/pipeline.ts';

it('computes nothing for one who had gone before the answer began', async () => {
  let sent = 0;
  const pipeline = new Pipeline({
    epoch: 1,
    scheduler: {
      stages: 1,
      nBatch: 8,
      nSeqMax: 1,
      contextTokens: 64,
      exact: true,
      queueMax: 4,
    },
    send: () => sent++,
    onStalled: () => {},
  });
  const gone = AbortSignal.abort();
  for await (const event of pipeline.answer(Int32Array.of(1, 2), 4, DEFAULT_SAMPLING, gone))
    throw new Error(`told ${event.type}`);
  expect([sent, pipeline.activeSequences]).toEqual([0, 0]);
});
