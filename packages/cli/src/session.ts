/**
 * A connection to a cluster, as the commands see it: the operator's service, and two ways to end it.
 * `run` starts a throw-away cluster on this machine for it.
 */
import type { OperatorServiceClient } from '@minikeep/protocol/v1';

export interface Session {
  readonly operator: OperatorServiceClient;
  /** Ends the cluster's processes in order, and removes its folder. */
  close(): Promise<void>;
  /** The same at once: kills and removes without waiting. Synchronous; never throws. */
  abandon(): void;
}
