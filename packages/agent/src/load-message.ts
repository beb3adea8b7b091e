/** What the coordinator asks to load, in the engine's words. The coordinator is trusted, its numbers are bounded anyway. */
import type { ContextSettings, LoadStage } from '@minikeep/engine';
import { FRAME_TOKENS_MAX, MinikeepError, SEQUENCES_MAX } from '@minikeep/protocol';
import { ExactMode, type LoadStage as LoadStageMessage } from '@minikeep/protocol/v1';

const CONTEXT_TOKENS_MAX = 16 * 1024 * 1024;
const THREADS_MAX = 256;

/** Throws `node.bad_request`. */
export function loadStageMessage(
  message: LoadStageMessage,
  slice: string,
  embedding: string | undefined,
): LoadStage {
  const { first, last, layers } = message;
  if (layers === undefined || layers.end <= layers.start) throw badLoad('it names no layers');
  return {
    type: 'load_stage',
    slice,
    ...(embedding === undefined ? {} : { embedding }),
    first,
    last,
    layers: [layers.start, layers.end],
    context: contextOf(message),
  };
}

function contextOf({ context }: LoadStageMessage): ContextSettings {
  if (context === undefined) throw badLoad('it has no context settings');
  const { nCtx, nBatch, nSeqMax, threads } = context;
  const within = (value: number, max: number): boolean => value >= 1 && value <= max;
  if (
    !within(nCtx, CONTEXT_TOKENS_MAX) ||
    !within(nBatch, FRAME_TOKENS_MAX) ||
    !within(nSeqMax, SEQUENCES_MAX) ||
    !within(threads, THREADS_MAX)
  )
    throw badLoad('its context settings are out of bounds');
  return {
    n_ctx: nCtx,
    n_batch: nBatch,
    n_seq_max: nSeqMax,
    mode: context.mode === ExactMode.EXACT_MODE_FAST ? 'fast' : 'exact',
    threads,
    gpu: context.gpu,
  };
}

export function badLoad(why: string): MinikeepError {
  return new MinikeepError('node.bad_request', `an engine was not loaded: ${why}`, {
    next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
  });
}
