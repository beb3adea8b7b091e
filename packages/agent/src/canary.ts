/** The canary on this node, one run at a time, as a stream of what it tried. */
import type { CanaryResponse } from '@minikeep/protocol/v1';

export interface NodeCanary {
  run(signal: AbortSignal): AsyncIterable<CanaryResponse>;
}
