/** Where a cluster listens, unless told otherwise. */
export const COORDINATOR_DEFAULTS = {
  name: 'keep',
  host: '0.0.0.0',
  /** The coordinator's services; strangers join on the next one, the first node's agent has the one after. */
  port: 7420,
  agentPort: 7422,
  certificateDays: 90,
} as const;
