/** A cluster's description in YAML or JSON: the nodes that `plan --nodes FILE` places a model on. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { parse } from 'yaml';
import { z } from 'zod';
import { formatBytes } from './format.ts';
import type { NodeFacts } from './types.ts';

export const CLUSTER_CONFIG_BYTES_MAX = 1024 * 1024;
const NODES_MAX = 256;

/** What a Mac's GPU may use without a raised `iogpu.wired_limit_mb`: two thirds up to 36 GiB, three quarters above. */
const WIRED_SHARE = { small: 2 / 3, large: 3 / 4, largeFromBytes: 36 * 1024 ** 3 };
/** Linux and the agent keep this much of a node's memory for themselves. */
const LINUX_RESERVE_BYTES = 1024 ** 3;

const SIZE = /^(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB|B)$/;
const FACTORS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/** "24 GiB", "400 GB" or a number of bytes. */
const bytes = z.union([z.number(), z.string()]).transform((size, ctx) => {
  const match = SIZE.exec(String(size).trim());
  const value =
    typeof size === 'number'
      ? size
      : Number(match?.[1]) * (FACTORS[match?.[2] ?? ''] ?? Number.NaN);
  if (Number.isFinite(value) && value >= 1 && value <= Number.MAX_SAFE_INTEGER)
    return Math.round(value);
  ctx.addIssue({ code: 'custom', message: `"${size}" is no size: write for example 24 GiB` });
  return z.NEVER;
});

const node = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'a name has a-z, 0-9 and -'),
  platform: z.enum(['macos', 'linux']).default('macos'),
  memory: bytes,
  /** Overrides what follows from `memory` and `platform`. */
  budget: bytes.optional(),
  memory_per_second: bytes.optional(),
  link: z
    .strictObject({
      latency_seconds: z.number().positive().max(10),
      bytes_per_second: z.number().positive(),
    })
    .optional(),
});

const config = z.strictObject({
  nodes: z
    .array(node)
    .min(1, 'a cluster has at least one node')
    .max(NODES_MAX)
    .refine((nodes) => new Set(nodes.map((n) => n.name)).size === nodes.length, {
      message: 'two nodes have the same name',
    }),
});

type ConfiguredNode = z.infer<typeof node>;

/** Reads a cluster file's text. Error `config.invalid` names the field. */
export function parseClusterConfig(text: string, source: string): NodeFacts[] {
  if (text.length > CLUSTER_CONFIG_BYTES_MAX)
    throw invalid(source, `larger than ${formatBytes(CLUSTER_CONFIG_BYTES_MAX)}`);
  let document: unknown;
  try {
    // Aliases are the way to make a small file enormous.
    document = parse(text, { maxAliasCount: 0 });
  } catch (error) {
    throw invalid(
      source,
      error instanceof Error ? (error.message.split('\n')[0] ?? '') : 'no YAML',
    );
  }
  const parsed = config.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue?.path.length ? `${issue.path.join('.')}: ` : '';
    throw invalid(source, `${where}${issue?.message ?? 'not a cluster'}`);
  }
  return parsed.data.nodes.map(toFacts);
}

function toFacts(n: ConfiguredNode): NodeFacts {
  return {
    name: n.name,
    budgetBytes: n.budget ?? defaultBudget(n),
    ...(n.memory_per_second === undefined ? {} : { memoryBytesPerSecond: n.memory_per_second }),
    ...(n.link === undefined
      ? {}
      : {
          link: {
            latencySeconds: n.link.latency_seconds,
            bytesPerSecond: n.link.bytes_per_second,
          },
        }),
  };
}

function defaultBudget(n: ConfiguredNode): number {
  if (n.platform === 'linux') return Math.max(0, n.memory - LINUX_RESERVE_BYTES);
  const share = n.memory > WIRED_SHARE.largeFromBytes ? WIRED_SHARE.large : WIRED_SHARE.small;
  return Math.floor(n.memory * share);
}

function invalid(source: string, what: string): MinikeepError {
  return new MinikeepError('config.invalid', `${source}: ${what}`, {
    next: 'Correct the file: a list `nodes`, each with `name` and `memory` (see minikeep plan --help).',
    exitCode: EXIT.usage,
  });
}
