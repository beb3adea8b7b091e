/** Why a deployment is not started, in one sentence. */
import type { Quarantined } from '@minikeep/protocol/v1';

export const quarantineText = ({ deployment, node, kind, operation }: Quarantined): string =>
  `${deployment} is in quarantine: an engine of it tried to get out on node ${node} and was stopped (${kind}: ${operation})`;
