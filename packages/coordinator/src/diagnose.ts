/**
 * Which stage holds a step that does not come back. Every agent is asked where its stage stands; an agent that does not
 * answer, an engine that is stopped, or one that has taken a frame and computes nothing, is the one.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type { StageStateResponse } from '@minikeep/protocol/v1';
import type { NodeLink } from './node-link.ts';

/** An agent that works answers in milliseconds. */
const ANSWER_TIMEOUT_MS = 2_000;
/** Between two looks at an engine's processor time … */
const SAMPLE_MS = 1_000;
/** … in which an engine that computes uses at least this much. */
const COMPUTING_CPU_SECONDS_MIN = 0.1;
/** A link that was cut is noticed, and another one taken, in this time: until then a step on its way is not lost. */
const CHANGE_OVER_MS = 6_000;
/** Waiting for a GPU uses no processor time: only silence can tell, and it has to last. */
const GPU_SILENCE_MS_MIN = 30_000;
/** Even an engine that computes is given up after this. */
const SILENCE_MS_MAX = 600_000;

export interface StageOnNode {
  readonly node: NodeLink;
  readonly layers: readonly [number, number];
}

export interface Silence {
  readonly deployment: string;
  readonly stages: readonly StageOnNode[];
  readonly silentMs: number;
  readonly gpu: boolean;
  /** Since the link to the first stage broke; 0 while it holds. */
  linkBrokenSeconds(): number;
  readonly signal: AbortSignal;
}

/** The error that names the stage, or undefined when the stages are computing. */
export async function diagnose(silence: Silence): Promise<MinikeepError | undefined> {
  let before = await ask(silence);
  if (changingOver(silence, before)) return undefined;
  // A node with several links may be silent only because one of them is gone.
  if (before.some((state, i) => state === undefined && severalLinks(silence.stages[i]))) {
    await pause(CHANGE_OVER_MS);
    before = await ask(silence);
  }
  const mute = before.findIndex((state) => state === undefined);
  if (mute >= 0) return stalled(silence, mute, 'its agent does not answer');
  const states = before as StageStateResponse[];
  const stopped = states.findIndex((state) => state.engineStopped);
  if (stopped >= 0) return stalled(silence, stopped, 'the process of its engine is stopped');
  const dead = states.findIndex((state) => !state.engineAlive);
  if (dead >= 0) return stalled(silence, dead, 'its engine is gone');
  const holder = states.findIndex((state) => state.oldestSeconds > 0);
  if (holder < 0) {
    await pause(CHANGE_OVER_MS);
    const later = await ask(silence);
    const moved = later.some((state, i) => state?.framesIn !== states[i]?.framesIn);
    return moved || changingOver(silence, later) ? undefined : lostBetween(silence, states);
  }
  if (silence.silentMs > SILENCE_MS_MAX)
    return stalled(silence, holder, 'its engine does not end a step');
  await pause(SAMPLE_MS);
  const after = await ask(silence);
  const now = after[holder];
  if (now === undefined) return stalled(silence, holder, 'its agent does not answer');
  const then = states[holder];
  // Frames moved meanwhile: it was only slow.
  if (then === undefined || now.framesOut > then.framesOut) return undefined;
  if (now.engineCpuSeconds - then.engineCpuSeconds >= COMPUTING_CPU_SECONDS_MIN) return undefined;
  if (silence.gpu && silence.silentMs < GPU_SILENCE_MS_MIN) return undefined;
  return stalled(silence, holder, 'its engine has a step and computes nothing');
}

/** A stage or we ourselves look for another way to the next one: the step is kept, and who gives up says so. */
function changingOver(
  silence: Silence,
  states: readonly (StageStateResponse | undefined)[],
): boolean {
  return (
    silence.linkBrokenSeconds() > 0 || states.some((state) => (state?.linkBrokenSeconds ?? 0) > 0)
  );
}

const severalLinks = (stage: StageOnNode | undefined): boolean =>
  (stage?.node.ways.length ?? 0) > 1;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function ask(silence: Silence): Promise<(StageStateResponse | undefined)[]> {
  return Promise.all(
    silence.stages.map(({ node }) =>
      node.agent
        .stageState(
          { deployment: silence.deployment },
          { signal: deadline(ANSWER_TIMEOUT_MS, silence.signal) },
        )
        .catch(() => undefined),
    ),
  );
}

/** Nobody holds the step: it is between two nodes. */
function lostBetween(silence: Silence, states: readonly StageStateResponse[]): MinikeepError {
  for (const [i, state] of states.entries()) {
    const next = states[i + 1];
    if (next !== undefined && state.framesSent > next.framesIn)
      return stalled(silence, i, `frames do not reach the next node`);
  }
  return stalled(silence, states.length - 1, 'no result of it arrives');
}

function stalled(silence: Silence, index: number, why: string): MinikeepError {
  const stage = silence.stages[index];
  const node = stage?.node.name ?? '';
  const seconds = (silence.silentMs / 1000).toFixed(1);
  return new MinikeepError(
    'stage.stalled',
    `${stageName(stage, index)} has not answered for ${seconds} s: ${why}`,
    {
      next: `Look at ${node}, then deploy again.`,
      exitCode: EXIT.unreachable,
      details: { node, stage: index, silent_seconds: Number(seconds) },
    },
  );
}

/** "stage 2 (layers 10 to 19) on node b": stages count from 1 for people. */
export function stageName(stage: StageOnNode | undefined, index: number): string {
  if (stage === undefined) return `stage ${index + 1}`;
  const [start, end] = stage.layers;
  return `stage ${index + 1} (layers ${start} to ${end - 1}) on node ${stage.node.name}`;
}
