/**
 * What is in a backup: a tar archive whose first entry describes it, then files of the home by their paths in it. Left
 * out is what the home's processes make anew (their own certificates, where they listen) and what nodes can fetch
 * again (slices), or what is too large (models).
 */
import { isKeptFile } from '@minikeep/models';
import { DATABASE_FILE, FILES } from '@minikeep/state';
import { z } from 'zod';
import { ENTRIES_MAX } from './limits.ts';

export const MANIFEST_FILE = 'backup.json';

export const MANIFEST = z.strictObject({
  format: z.literal(1),
  minikeep_version: z.string().max(100),
  cluster_id: z.string().min(1).max(63),
  cluster_name: z.string().min(1).max(63),
  /** The node that it was made on. */
  node: z.string().min(1).max(63),
  /** ISO 8601. */
  made: z.iso.datetime(),
  /** Files that end in a hole: their sizes, bytes. */
  sizes: z
    .record(z.string().refine(isKeptFile), z.number().int().nonnegative())
    .refine((sizes) => Object.keys(sizes).length <= ENTRIES_MAX),
});
export type Manifest = z.infer<typeof MANIFEST>;

/** Without any one of them the cluster can't be brought back. */
export const KEYS: readonly string[] = [
  FILES.settings,
  FILES.authority,
  FILES.authorityKey,
  FILES.certificate,
  FILES.privateKey,
];
export const NEEDED: readonly string[] = [...KEYS, DATABASE_FILE];

/** Whether an archive's entry has a place in a home: nothing else is ever written. */
export const belongs = (name: string): boolean => NEEDED.includes(name) || isKeptFile(name);
