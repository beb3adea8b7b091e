/** A placement as `plan --json` prints it. */
import { sendingSeconds, type ModelFacts, type Placement, type Raise } from '@minikeep/planner';
import type { ModelCheck } from '@minikeep/protocol/v1';
import { checkDocument } from './model-check-state.ts';

interface Besides {
  /** By node, of a running cluster. */
  readonly checks?: ReadonlyMap<string, ModelCheck | undefined> | undefined;
  /** What has to be done before it fits. */
  readonly raises?: readonly Raise[];
  /** The model that fits without. */
  readonly smaller?: string | undefined;
}

export function planDocument(
  facts: ModelFacts,
  placement: Placement,
  { checks, raises = [], smaller }: Besides = {},
): Record<string, unknown> {
  const { options } = placement;
  return {
    model: placement.model,
    fits: raises.length === 0,
    architecture: facts.architecture,
    layers: facts.layers.length,
    cuts: placement.cuts,
    context_tokens: options.contextTokens,
    parallel: options.parallel,
    mode: options.mode,
    stages: placement.stages.map((stage) => ({
      node: stage.node,
      layers: stage.layers,
      weights_bytes: stage.memory.weights,
      kv_bytes: stage.memory.cache,
      compute_bytes: stage.memory.compute,
      process_bytes: stage.memory.process,
      total_bytes: stage.memory.total,
      budget_bytes: stage.budgetBytes,
      ...(checks === undefined ? {} : { model_check: checkDocument(checks.get(stage.node)) }),
      ...(placement.costInSeconds ? { token_seconds: stage.cost } : {}),
    })),
    unused: placement.unused,
    sending_seconds: sendingSeconds(placement) ?? null,
    ...(placement.costInSeconds
      ? { token_seconds: placement.totalCost, slowest_stage_seconds: placement.slowestCost }
      : {}),
    ...(raises.length === 0
      ? {}
      : {
          raise: raises.map(({ node, command, nowBytes, limitBytes }) => ({
            node,
            command,
            limit_now_bytes: nowBytes,
            limit_bytes: limitBytes,
          })),
          fits_without: smaller ?? null,
        }),
  };
}
