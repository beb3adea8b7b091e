/** Answers operators who ask what is proven (proto/minikeep/v1/seal_status.proto). */
import type { SealStatusServiceImplementation } from '@minikeep/protocol/v1';
import type { Cluster } from '../cluster.ts';

export const sealStatusService = (cluster: Cluster): SealStatusServiceImplementation => ({
  sealStatus: () => Promise.resolve(cluster.seal.status(cluster.violations.total)),
});
