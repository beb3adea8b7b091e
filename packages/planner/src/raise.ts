/** A model that fits only when the GPUs of Macs may hold more than they do now: on which, how much, how. */
import { MinikeepError } from '@minikeep/protocol';
import { plan } from './place.ts';
import type { ModelFacts, NodeFacts, Placement, PlanOptions } from './types.ts';

const MIB = 1024 ** 2;
/** What is asked for beyond the need: compute buffers were compared on CPUs only. */
const MARGIN = 1.02;
/** Limits are asked for in whole GiB. */
const STEP_BYTES = 1024 * MIB;

/** One node whose limit has to be raised. */
export interface Raise {
  readonly node: string;
  readonly nowBytes: number;
  readonly limitBytes: number;
  /** What to type on that node. It holds until the machine restarts. */
  readonly command: string;
}

export interface Raised {
  readonly placement: Placement;
  /** In the placement's order; never empty. */
  readonly raises: readonly Raise[];
}

/** The line that sets the limit, in the unit that macOS takes: MiB. */
export const raiseCommand = (limitBytes: number): string =>
  `sudo sysctl iogpu.wired_limit_mb=${Math.floor(limitBytes / MIB)}`;

/** The best placement with every limit as high as it may be; undefined when that doesn't make the model fit either. */
export function planRaised(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  options: PlanOptions,
): Raised | undefined {
  if (!nodes.some(({ wiredLimit, budgetBytes }) => (wiredLimit?.highestBytes ?? 0) > budgetBytes))
    return undefined;
  const highest = nodes.map((node) => ({
    ...node,
    budgetBytes: Math.max(node.budgetBytes, node.wiredLimit?.highestBytes ?? 0),
  }));
  const placement = fitting(() => plan(model, highest, options));
  if (placement === undefined) return undefined;
  const raises = placement.stages.flatMap((stage): Raise[] => {
    const node = nodes.find(({ name }) => name === stage.node);
    if (node === undefined || stage.memory.total <= node.budgetBytes) return [];
    const wanted = Math.ceil((stage.memory.total * MARGIN) / STEP_BYTES) * STEP_BYTES;
    const limitBytes = Math.min(wanted, stage.budgetBytes);
    return [
      {
        node: stage.node,
        nowBytes: node.budgetBytes,
        limitBytes,
        command: raiseCommand(limitBytes),
      },
    ];
  });
  return { placement, raises };
}

/** The placement; `plan.no_fit` says for each Mac what raises its limit, when that makes the model fit. */
export function planOrRaise(
  model: ModelFacts,
  nodes: readonly NodeFacts[],
  options: PlanOptions,
): Placement {
  const placement = fitting(() => plan(model, nodes, options));
  if (placement !== undefined) return placement;
  const raised = planRaised(model, nodes, options);
  if (raised !== undefined) throw fitsOnlyRaised(model.name, raised.raises);
  return plan(model, nodes, options);
}

/** `smaller`: a model that fits without. */
export function fitsOnlyRaised(
  model: string,
  raises: readonly Raise[],
  smaller?: string,
): MinikeepError {
  const machines = raises.map(({ node }) => node).join(', ');
  return new MinikeepError(
    'plan.no_fit',
    `${model} fits only when the GPUs of ${machines} may hold more than they do now`,
    {
      next: `Raise the limits (${raises.map(({ node, command }) => `${node}: ${command}`).join('; ')})${smaller === undefined ? '' : `, or use ${smaller}, which fits without`}.`,
      details: { raise: machines, ...(smaller === undefined ? {} : { smaller }) },
    },
  );
}

/** The placement, or undefined when the only thing against it is memory. */
export function fitting(place: () => Placement): Placement | undefined {
  try {
    return place();
  } catch (error) {
    if (error instanceof MinikeepError && error.code === 'plan.no_fit') return undefined;
    throw error;
  }
}
