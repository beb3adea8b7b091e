/** What an agent is started with. */
import { COMMON_CONFIG, NAME_FIELD } from '@minikeep/protocol/config';
import { z } from 'zod';

export const AGENT_CONFIG = z.strictObject({
  ...COMMON_CONFIG,
  node: NAME_FIELD,
  store: z.strictObject({ folder: z.string().min(1), bytes_max: z.number().int().nonnegative() }),
  /** Where the bundles and the engine's libraries lie. */
  program_folder: z.string().min(1),
  /** --unsafe-no-sandbox: engines run unprotected, and the cluster counts as unsealed. */
  unsafe_no_sandbox: z.boolean().default(false),
});

export type AgentConfig = z.infer<typeof AGENT_CONFIG>;

/** Of a cluster that stays: the home holds the rest. */
export const HOME_AGENT_CONFIG = z.strictObject({
  home: z.string().min(1),
  store: AGENT_CONFIG.shape.store,
  program_folder: AGENT_CONFIG.shape.program_folder,
  unsafe_no_sandbox: AGENT_CONFIG.shape.unsafe_no_sandbox,
  /** A coordinator that moved may be looked for on the local network. */
  discovery: z.boolean().default(false),
  end_with_stdin: AGENT_CONFIG.shape.end_with_stdin,
});

export type HomeAgentConfig = z.infer<typeof HOME_AGENT_CONFIG>;
