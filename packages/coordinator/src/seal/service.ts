/** Answers operators about the seal (proto/minikeep/v1/seal_status.proto). */
import { CALL_TIMEOUT_MS } from '@minikeep/protocol';
import { deadline } from '@minikeep/protocol/rpc';
import type {
  Revealed,
  RevealViolationsResponse,
  SealStatusServiceImplementation,
} from '@minikeep/protocol/v1';
import type { State } from '@minikeep/state';
import type { Cluster } from '../cluster.ts';

/** `state`: where it is kept that something was revealed. `own`: what the coordinator's own process knows. */
export const sealStatusService = (
  cluster: Cluster,
  state: State | undefined,
  own: () => readonly Revealed[],
): SealStatusServiceImplementation => {
  const { policies } = cluster;
  const message = () => ({ violations: policies.violations, whenBlind: policies.whenBlind });
  return {
    sealStatus: () =>
      Promise.resolve({
        ...cluster.seal.status(cluster.sealed(), cluster.violations.total),
        policies: message(),
        quarantined: policies.quarantined.map(({ atMs, ...row }) => ({
          ...row,
          atSeconds: atMs / 1000,
        })),
      }),
    async setPolicy({ violations, whenBlind }) {
      policies.set(violations, whenBlind);
      return message();
    },
    async liftQuarantine({ deployment }) {
      policies.lift(deployment);
      return {};
    },
    async revealViolations(_, { signal }) {
      const found = await revealed(cluster, own, signal);
      // Before it is shown: what can't be kept is not revealed.
      state?.write(({ event }) => {
        event('violations.revealed', { targets: found.targets.length, missing: found.missing });
      });
      return found;
    },
  };
};

async function revealed(
  cluster: Cluster,
  own: () => readonly Revealed[],
  signal: AbortSignal,
): Promise<RevealViolationsResponse> {
  const missing: string[] = [];
  const asked = cluster.nodes.map(async ({ name, up, agent }) => {
    try {
      if (!up) throw new Error('it is away');
      const { targets } = await agent.reveal({}, { signal: deadline(CALL_TIMEOUT_MS, signal) });
      return targets.map((target) => ({ ...target, node: name }));
    } catch {
      signal.throwIfAborted();
      missing.push(name);
      return [];
    }
  });
  const targets = (await Promise.all(asked)).flat();
  return { targets: [...targets, ...own().map((one) => ({ ...one, node: '' }))], missing };
}
