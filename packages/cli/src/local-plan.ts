/**
 * The plan of a cluster on this machine. `plan --local` shows it; `run` makes it before it starts anything, so that a
 * file that is no model, a cut that is not possible or a model that does not fit is said within a moment.
 */
import { openModel, textOf } from '@minikeep/gguf';
import {
  modelFacts,
  plan,
  type ModelFacts,
  type NodeFacts,
  type Placement,
  type PlanOptions,
} from '@minikeep/planner';
import { CONTEXT_DEFAULT_MAX } from './defaults.ts';
import { localBudgetBytes } from './local-memory.ts';

/** Rows of one step at most; the engine's default. */
const BATCH_ROWS = 512;

export interface PlanWish {
  readonly cuts?: readonly number[];
  readonly context?: number;
  readonly parallel?: number;
  readonly mode: 'exact' | 'fast';
}

export interface Planned {
  readonly facts: ModelFacts;
  readonly placement: Placement;
  /** What the file has for text; whether it works, only the text engine can say. */
  readonly hasVocabulary: boolean;
  readonly hasTemplate: boolean;
}

/** What is asked of the planner, with the defaults that a model implies. */
export function planOptions(
  facts: ModelFacts,
  wish: PlanWish,
  more: Pick<PlanOptions, 'sharedBudgetBytes' | 'anyOrder' | 'useEveryNode' | 'network'> = {},
): PlanOptions {
  const trained = facts.contextLength || CONTEXT_DEFAULT_MAX;
  return {
    contextTokens: wish.context ?? Math.min(CONTEXT_DEFAULT_MAX, trained),
    parallel: wish.parallel ?? 1,
    batchRows: BATCH_ROWS,
    mode: wish.mode,
    ...(wish.cuts === undefined ? {} : { cuts: wish.cuts }),
    ...more,
  };
}

/** The nodes of a cluster on this machine: processes that share its free memory. */
export async function localNodes(
  count: number,
): Promise<{ nodes: NodeFacts[]; sharedBudgetBytes: number }> {
  const sharedBudgetBytes = await localBudgetBytes();
  const nodes = Array.from({ length: count }, (_, i) => ({
    name: `node-${i + 1}`,
    budgetBytes: sharedBudgetBytes,
  }));
  return { nodes, sharedBudgetBytes };
}

/** Throws what is wrong with the file (`gguf.*`), its architecture, the cuts or its size (`plan.*`). */
export async function planLocally(
  modelPath: string,
  nodeCount: number,
  wish: PlanWish,
): Promise<Planned> {
  const model = await openModel(modelPath);
  const facts = modelFacts(model);
  const { nodes, sharedBudgetBytes } = await localNodes(nodeCount);
  return {
    facts,
    placement: plan(facts, nodes, planOptions(facts, wish, { sharedBudgetBytes })),
    hasTemplate: textOf(model, 'tokenizer.chat_template') !== undefined,
    hasVocabulary: model.metadata.has('tokenizer.ggml.tokens'),
  };
}
