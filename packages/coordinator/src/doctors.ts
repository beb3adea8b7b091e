/** The doctor on nodes: asked for by an operator, and before the first model comes up on a node. */
import { toMinikeepError } from '@minikeep/protocol';
import type { DoctorNodeResponse } from '@minikeep/protocol/v1';
import { deadline } from '@minikeep/protocol/rpc';
import type { NodeLink } from './node-link.ts';

/** Digests of the installation, an engine's start, a small model whole and split. */
const DOCTOR_TIMEOUT_MS = 180_000;

/** Throws the node's fault. */
export async function* doctorOn(
  node: NodeLink,
  modelCheck: boolean,
  signal: AbortSignal,
): AsyncGenerator<DoctorNodeResponse, void, undefined> {
  await node.reachable();
  const limited = deadline(DOCTOR_TIMEOUT_MS, signal);
  for await (const { event } of node.agent.doctor({ modelCheck }, { signal: limited })) {
    if (event?.$case === 'report' && modelCheck) node.checked(event.value.modelCheck);
    if (event !== undefined) yield { event };
  }
}

/** Looks at nodes where no check came to its end yet, all at once; one that can't be looked at says why. */
export async function checkUnchecked(
  nodes: readonly NodeLink[],
  signal: AbortSignal,
): Promise<void> {
  const unchecked = nodes.filter(
    ({ modelCheck }) => modelCheck === undefined || modelCheck.status === 'not_run',
  );
  await Promise.all(
    unchecked.map(async (node) => {
      try {
        for await (const _ of doctorOn(node, true, signal));
      } catch (error) {
        signal.throwIfAborted();
        const why = toMinikeepError(error).message;
        const checkedAtSeconds = Date.now() / 1000;
        node.checked({ status: 'not_run', by: 0, backend: '', why, checkedAtSeconds });
      }
    }),
  );
}
