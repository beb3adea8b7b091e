/** Answers operators about the seal (proto/minikeep/v1/seal_status.proto). */
import type { SealStatusServiceImplementation } from '@minikeep/protocol/v1';
import type { Cluster } from '../cluster.ts';

export const sealStatusService = (cluster: Cluster): SealStatusServiceImplementation => {
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
  };
};
