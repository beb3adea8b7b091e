/** What a coordinator is started with. */
import { COMMON_CONFIG, NAME_FIELD } from '@minikeep/protocol/config';
import { z } from 'zod';

const NODES_MAX = 256;
const ACCEPTED_MAX = 1_000;

export const COORDINATOR_CONFIG = z.strictObject({
  ...COMMON_CONFIG,
  /** The name in its own certificate. */
  name: NAME_FIELD,
  /** Stages follow each other in this order unless a deployment says otherwise. */
  nodes: z
    .array(z.strictObject({ name: NAME_FIELD, address: z.string().min(3).max(300) }))
    .max(NODES_MAX),
  /** Remembers the digests of models and slices. */
  cache_folder: z.string().min(1),
  /** A home whose database keeps what is wanted, so that it outlives the coordinator. */
  state_home: z.string().min(1).optional(),
});

export type CoordinatorConfig = z.infer<typeof COORDINATOR_CONFIG>;

/** Of a cluster that stays: its home holds the rest. */
export const HOME_COORDINATOR_CONFIG = z.strictObject({
  home: z.string().min(1),
  /** Programs that differ from what they should be, and were accepted: SHA-256, hex; empty: none. */
  accepted_changed: z
    .array(
      z.strictObject({
        file: z.string().max(300),
        expected: z.string().max(64),
        found: z.string().max(64),
      }),
    )
    .max(ACCEPTED_MAX)
    .optional(),
  end_with_stdin: COMMON_CONFIG.end_with_stdin,
});

export type HomeCoordinatorConfig = z.infer<typeof HOME_COORDINATOR_CONFIG>;
