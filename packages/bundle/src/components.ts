/**
 * What the programs carry by others, as the build wrote it into dist/components.json: read here for the bill of
 * materials and for the question about advisories.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';

const SCHEMA = z.array(
  z.object({
    name: z.string(),
    version: z.string(),
    licence: z.string(),
    integrity: z.string(),
  }),
);

export type Component = z.infer<typeof SCHEMA>[number];

/** Throws `bundle.not_built`. */
export function readComponents(distFolder: string): Component[] {
  const file = path.join(distFolder, 'components.json');
  try {
    return SCHEMA.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    throw new MinikeepError('bundle.not_built', `${file} is missing or damaged`, {
      next: 'Build again: npm run build (or install this version of minikeep again).',
      cause,
    });
  }
}
