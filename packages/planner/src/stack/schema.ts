/**
 * The format of a stack file: one cluster, its machines, and the models it is for. `plan --nodes` reads it to say
 * what would fit, `bootstrap` to set the machines up. cluster-configs/stack.schema.json is made from this schema
 * (scripts/stack-schema.mjs), so that editors complete the files; a test compares the two.
 */
import { isHost, isName } from '@minikeep/protocol';
import { z } from 'zod';
import { CHIPS } from './hardware.ts';
import { SIZE_FIELD } from './sizes.ts';

export const STACK_NODES_MAX = 64;
const ADDRESSES_MAX = 16;
const MODELS_MAX = 32;
const LINKS_MAX = (STACK_NODES_MAX * (STACK_NODES_MAX - 1)) / 2;
const PORT_MAX = 65_535;
const CONTEXT_TOKENS_MAX = 16 * 1024 * 1024;
const PARALLEL_MAX = 256;
/** As `init --name` takes it. */
const CLUSTER_NAME_MAX = 40;

const NAME_RULE =
  'has to be a name of a-z, 0-9, ".", "_" and "-", beginning and ending with a letter or digit';
const NAME = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$/, NAME_RULE)
  .refine(isName, NAME_RULE);

/** Never begins with "-": ssh would take it for an option. */
const ADDRESS = z
  .string()
  .max(100)
  .refine(
    isHost,
    'is no address: a host name, an IPv4 or an IPv6 address, without port and brackets',
  )
  .refine(
    (host) => !/^[\d.]+$/.test(host) || isIpv4(host),
    'is no IPv4 address: four numbers of 0 to 255',
  );

function isIpv4(host: string): boolean {
  const parts = host.split('.');
  return parts.length === 4 && parts.every((p) => /^\d{1,3}$/.test(p) && Number(p) <= 255);
}

const LINK = {
  latency_seconds: z.number().positive().max(10).describe('Half of the time there and back.'),
  bytes_per_second: SIZE_FIELD.describe('What the link carries, for example 1.1 GB.'),
};

const SSH = z
  .strictObject({
    host: ADDRESS.describe('Where ssh reaches the machine.'),
    port: z.number().int().min(1).max(PORT_MAX).default(22),
    user: z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9._-]{0,63}$/, 'is no user name')
      .optional()
      .describe('Default: what ssh takes by itself.'),
    identity_file: z
      .string()
      .regex(/^[^-\p{Cc}][^\p{Cc}]{0,1023}$/u, 'is no file name')
      .optional()
      .describe('A private key; default: the keys that ssh and its agent know.'),
  })
  .describe('How bootstrap gets in. Not needed for a plan.');

const HARDWARE = z
  .strictObject({
    chip: z
      .enum(CHIPS.map(({ name }) => name) as [string, ...string[]])
      .optional()
      .describe('Gives the speeds that are not named below.'),
    memory: SIZE_FIELD.describe('All memory of the machine, for example 24 GiB.'),
    budget: SIZE_FIELD.optional().describe(
      'What an engine may use. Default: on macOS the GPU’s wired limit, on Linux the memory less 1 GiB.',
    ),
    wired_limit: SIZE_FIELD.optional().describe(
      'macOS: iogpu.wired_limit_mb, if it was raised. Default: two thirds of the memory, three quarters above 36 GiB.',
    ),
    memory_per_second: SIZE_FIELD.optional().describe(
      'Bytes that an engine reads a second, for example 273 GB.',
    ),
    teraops: z
      .number()
      .positive()
      .max(100_000)
      .optional()
      .describe('10^12 operations a second that an engine computes.'),
  })
  .refine((h) => h.budget === undefined || h.budget <= h.memory, {
    path: ['budget'],
    message: 'is more than the memory',
  })
  .refine((h) => h.wired_limit === undefined || h.wired_limit <= h.memory, {
    path: ['wired_limit'],
    message: 'is more than the memory',
  });

const NODE = z
  .strictObject({
    name: NAME.describe('The node’s name in the cluster.'),
    role: z
      .enum(['coordinator', 'node'])
      .default('node')
      .describe('Exactly one machine is the coordinator: it holds the authority and the models.'),
    platform: z.enum(['macos', 'linux']).default('macos'),
    ssh: SSH.optional(),
    addresses: z
      .array(ADDRESS)
      .max(ADDRESSES_MAX)
      .default([])
      .describe(
        'Where the other nodes reach it, fastest first. Default: what the node finds out itself.',
      ),
    hardware: HARDWARE,
  })
  .refine((n) => n.platform === 'macos' || n.hardware.wired_limit === undefined, {
    path: ['hardware', 'wired_limit'],
    message: 'only macOS has a wired limit',
  });

const MODEL = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(200)
    .regex(
      /^[^-\p{Cc}\p{Z}][^\p{Cc}\p{Z}]*$/u,
      'is no model: a known shape, a model’s name or a file',
    )
    .describe(
      'A known shape (deepseek-r1-671b@Q4_K_M), the name of an imported model, or a GGUF file.',
    ),
  context: z.number().int().min(1).max(CONTEXT_TOKENS_MAX).optional().describe('Tokens each.'),
  parallel: z.number().int().min(1).max(PARALLEL_MAX).optional().describe('Conversations at once.'),
});

/** Every second mention of a value is an issue at its own place. */
function unique(
  values: readonly (readonly [string, readonly (string | number)[]])[],
  what: string,
  ctx: z.core.$RefinementCtx,
): void {
  const seen = new Set<string>();
  for (const [value, path] of values) {
    if (seen.has(value))
      ctx.addIssue({
        code: 'custom',
        path: [...path],
        message: `${what} "${value}" is there twice`,
      });
    seen.add(value);
  }
}

export const STACK_SCHEMA = z
  .strictObject({
    cluster: NAME.max(CLUSTER_NAME_MAX, `has at most ${CLUSTER_NAME_MAX} letters`).describe(
      'The cluster’s name.',
    ),
    nodes: z
      .array(NODE)
      .min(1, 'a cluster has at least one node')
      .max(STACK_NODES_MAX, `a cluster has at most ${STACK_NODES_MAX} nodes`),
    network: z
      .strictObject(LINK)
      .optional()
      .describe('Between every two machines, unless `links` says otherwise.'),
    links: z
      .array(z.strictObject({ between: z.tuple([NAME, NAME]), ...LINK }))
      .max(LINKS_MAX)
      .default([]),
    models: z.array(MODEL).max(MODELS_MAX).default([]),
  })
  .superRefine((stack, ctx) => {
    const { nodes, links } = stack;
    const each = <T>(of: (node: (typeof nodes)[number]) => T): T[] => nodes.map(of);
    unique(
      each((n) => n.name).map((name, i) => [name, ['nodes', i, 'name']]),
      'the node',
      ctx,
    );
    const addresses = nodes.flatMap((n, i) =>
      n.addresses.map(
        (address, k) => [address.toLowerCase(), ['nodes', i, 'addresses', k]] as const,
      ),
    );
    unique(addresses, 'the address', ctx);
    const ssh = nodes.flatMap((n, i) =>
      n.ssh === undefined
        ? []
        : [
            [
              `${n.ssh.host.toLowerCase()} port ${n.ssh.port}`,
              ['nodes', i, 'ssh', 'host'],
            ] as const,
          ],
    );
    unique(ssh, 'the ssh address', ctx);
    const coordinators = nodes.flatMap((n, i) => (n.role === 'coordinator' ? [i] : []));
    if (coordinators.length === 0)
      ctx.addIssue({
        code: 'custom',
        path: ['nodes'],
        message: 'one machine has to be the coordinator: give it `role: coordinator`',
      });
    for (const i of coordinators.slice(1))
      ctx.addIssue({
        code: 'custom',
        path: ['nodes', i, 'role'],
        message: `only one machine can be the coordinator, and ${nodes[coordinators[0] ?? 0]?.name} is`,
      });
    const names = new Set(each((n) => n.name));
    for (const [i, { between }] of links.entries()) {
      for (const [k, name] of between.entries())
        if (!names.has(name))
          ctx.addIssue({
            code: 'custom',
            path: ['links', i, 'between', k],
            message: `there is no node "${name}"`,
          });
      if (between[0] === between[1])
        ctx.addIssue({
          code: 'custom',
          path: ['links', i, 'between'],
          message: 'a link is between two machines',
        });
    }
    unique(
      links.map(({ between }, i) => [between.toSorted().join(' – '), ['links', i, 'between']]),
      'the link',
      ctx,
    );
    unique(
      stack.models.map(({ name }, i) => [name, ['models', i, 'name']]),
      'the model',
      ctx,
    );
  });

/** A stack file after it was checked: sizes in bytes, defaults filled in. */
export type Stack = z.output<typeof STACK_SCHEMA>;
export type StackNode = Stack['nodes'][number];
export type StackModel = Stack['models'][number];
