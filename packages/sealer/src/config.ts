/** Written by whoever installs the root helper, as root; nobody else may have a say in it. */
import { MinikeepError } from '@minikeep/protocol';
import { readFileSync, statSync } from 'node:fs';
import { z } from 'zod';

const OTHERS_WRITE = 0o022;
const PEM_MAX = 16_384;
const absolute = z.string().max(1_024).regex(/^\//, 'must be absolute');

const configSchema = z.strictObject({
  cluster: z.string().min(1).max(255),
  node: z.string().min(1).max(255),
  /** The authority's certificate, PEM: whose orders count. */
  authority: z.string().max(PEM_MAX).includes('BEGIN CERTIFICATE'),
  /** Whose agent may ask. */
  uid: z.int().nonnegative(),
  socket: absolute,
  /** What it must not forget; in a folder of root's. */
  state: absolute,
});
export type SealerConfig = z.infer<typeof configSchema>;

/** Throws `seal.bad_config`. */
export function readSealerConfig(file: string): SealerConfig {
  try {
    const { uid, mode } = statSync(file);
    if (uid !== 0 || (mode & OTHERS_WRITE) !== 0) throw new Error('others than root can write it');
    return configSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
    throw new MinikeepError('seal.bad_config', `${file}: ${why}`, {
      next: 'Install the root helper again: sudo minikeep service install --seal node.',
      cause,
    });
  }
}
