/**
 * What a conformance run computes: prompts longer than a batch and than every window, several sequences in one step
 * with spans of different lengths, a rewind, and a slot that is used again.
 */
import { Script, type ContextSettings, type StepInput } from '@minikeep/engine';

const BATCH = 32;

export const CONFORMANCE_CONTEXT = {
  n_ctx: 128,
  n_batch: BATCH,
  n_seq_max: 3,
  threads: 1,
} as const satisfies Partial<ContextSettings>;

export function conformanceScript(vocabSize: number): readonly StepInput[] {
  return (
    new Script(vocabSize)
      .open(0)
      // 48 tokens: beyond the batch, three windows of 16, and YaRN's 16 positions.
      .step([0, BATCH])
      .step([0, 16])
      .open(1)
      .step([0, 1], [1, 20])
      .step([0, 1], [1, 1])
      .open(2)
      .step([2, 7], [0, 1], [1, 1])
      .rewind(1, 20)
      .step([1, 3], [0, 1], [2, 1])
      .step([0, 1], [1, 1], [2, 1])
      .step([2, 1], [1, 1], [0, 1])
      .close(2)
      .open(2)
      .step([0, 1], [2, 5])
      .step([2, 1], [1, 1]).steps
  );
}
