/** Loads a deployment's engines on their nodes, all machines at once, and adds their progress up. */
import { MinikeepError } from '@minikeep/protocol';
import type { EngineReady, LoadRequest } from '@minikeep/protocol/v1';
import type { NodeLink } from './node-link.ts';

/** Engines of one machine that load at once: more would fight for its cores and disk. */
const STARTS_MAX = 2;

export interface EngineToLoad {
  readonly node: NodeLink;
  readonly request: Omit<LoadRequest, 'policy'>;
  /** Weighs its progress. */
  readonly bytes: number;
}

/** Returns what each engine said when it was ready, in the order given. The first failure ends all. */
export async function loadEngines(
  engines: readonly EngineToLoad[],
  onProgress: (fraction: number) => void,
  signal: AbortSignal,
): Promise<EngineReady[]> {
  const total = engines.reduce((sum, engine) => sum + engine.bytes, 0);
  const fractions = engines.map(() => 0);
  const progress = (i: number, fraction: number): void => {
    fractions[i] = fraction;
    const done = engines.reduce((sum, engine, j) => sum + engine.bytes * (fractions[j] ?? 0), 0);
    onProgress(total === 0 ? 1 : done / total);
  };
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const machines = new Map<string, Promise<unknown>[]>();
  try {
    return await Promise.all(
      engines.map((engine, i) => {
        const machine = engine.node.hello?.machine ?? engine.node.name;
        const starts = machines.get(machine) ?? [];
        const before = starts.at(-STARTS_MAX) ?? Promise.resolve();
        const loading = before.then(() =>
          loadOne(engine, (fraction) => progress(i, fraction), either),
        );
        machines.set(machine, [...starts, loading]);
        return loading;
      }),
    );
  } catch (error) {
    failed.abort(error);
    throw error;
  }
}

/** No deadline for the whole: loading may take long. Keepalive and the agent's own limits end what hangs. */
async function loadOne(
  { node, request }: EngineToLoad,
  onProgress: (fraction: number) => void,
  signal: AbortSignal,
): Promise<EngineReady> {
  for await (const { event } of node.agent.load(
    { ...request, policy: node.violationPolicy },
    { signal },
  )) {
    if (event?.$case === 'progress') onProgress(event.value.fraction);
    if (event?.$case === 'ready') {
      onProgress(1);
      return event.value;
    }
  }
  throw new MinikeepError('engine.not_ready', `node ${node.name} stopped loading without a word`, {
    next: 'Look at that node, then deploy again.',
  });
}
