/** What a coordinator is started with: one JSON document, checked before anything is done with it. */
import { readFile } from 'node:fs/promises';
import { EXIT, MinikeepError, isName } from '@minikeep/protocol';
import { z } from 'zod';

const CONFIG_BYTES_MAX = 1024 * 1024;
const NODES_MAX = 256;

const name = z.string().refine(isName, 'not a name');

const Config = z.strictObject({
  cluster: name,
  /** The name in its own certificate. */
  name,
  /** host:port; port 0 lets the kernel choose. */
  listen: z.string().min(3).max(300),
  credentials: z.strictObject({
    authority: z.string(),
    certificate: z.string(),
    privateKey: z.string(),
  }),
  /** Stages follow each other in this order unless a deployment says otherwise. */
  nodes: z.array(z.strictObject({ name, address: z.string().min(3).max(300) })).max(NODES_MAX),
  /** Remembers the digests of models and slices. */
  cache_folder: z.string().min(1),
  end_with_stdin: z.boolean().default(false),
  /** Removed when the process ends: a throw-away cluster's keys must not outlive it. */
  temporary_folder: z.string().min(1).optional(),
});

export type CoordinatorConfig = z.infer<typeof Config>;

/** Reads and checks a configuration file. Throws `config.unreadable`, `config.invalid`. */
export async function readCoordinatorConfig(file: string): Promise<CoordinatorConfig> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new MinikeepError('config.unreadable', `can't read the configuration ${file}`, {
      next: 'Give the path of an existing file: coordinator.mjs CONFIG.json',
      exitCode: EXIT.usage,
      cause,
    });
  });
  return parseCoordinatorConfig(text, file);
}

/** As `readCoordinatorConfig`, from the document itself. */
export function parseCoordinatorConfig(text: string, source: string): CoordinatorConfig {
  const invalid = (why: string): MinikeepError =>
    new MinikeepError(
      'config.invalid',
      `the coordinator's configuration ${source} is not valid: ${why}`,
      {
        next: 'Correct the file; ARCHITECTURE.md says where its fields are described.',
        exitCode: EXIT.usage,
      },
    );
  if (text.length > CONFIG_BYTES_MAX) throw invalid('it is too long');
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw invalid(cause instanceof Error ? cause.message : 'not JSON');
  }
  const parsed = Config.safeParse(document);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalid(`${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown fault'}`);
}
