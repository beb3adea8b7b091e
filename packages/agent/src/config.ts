/** What an agent is started with: one JSON document, checked before anything is done with it. */
import { readFile } from 'node:fs/promises';
import { MinikeepError, isName } from '@minikeep/protocol';
import { z } from 'zod';

const CONFIG_BYTES_MAX = 64 * 1024;

const name = z.string().refine(isName, 'not a name');

const Config = z.strictObject({
  cluster: name,
  node: name,
  /** host:port; port 0 lets the kernel choose. */
  listen: z.string().min(3).max(300),
  credentials: z.strictObject({
    authority: z.string(),
    certificate: z.string(),
    privateKey: z.string(),
  }),
  store: z.strictObject({ folder: z.string().min(1), bytes_max: z.number().int().nonnegative() }),
  /** Where the bundles and the engine's libraries lie. */
  program_folder: z.string().min(1),
  /** --unsafe-no-sandbox: engines run unprotected, and the cluster counts as unsealed. */
  unsafe_no_sandbox: z.boolean().default(false),
  /** Ends when its standard input does: a local cluster's agent must not outlive who started it. */
  end_with_stdin: z.boolean().default(false),
  /** Removed when the process ends: a throw-away cluster's keys must not outlive it. */
  temporary_folder: z.string().min(1).optional(),
});

export type AgentConfig = z.infer<typeof Config>;

/** Reads and checks a configuration file. Throws `config.unreadable`, `config.invalid`. */
export async function readAgentConfig(file: string): Promise<AgentConfig> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new MinikeepError('config.unreadable', `can't read the agent's configuration ${file}`, {
      next: 'Give the path of an existing file: agent.mjs CONFIG.json',
      exitCode: 2,
      cause,
    });
  });
  return parseAgentConfig(text, file);
}

/** As `readAgentConfig`, from the document itself. */
export function parseAgentConfig(text: string, source: string): AgentConfig {
  const invalid = (why: string): MinikeepError =>
    new MinikeepError(
      'config.invalid',
      `the agent's configuration ${source} is not valid: ${why}`,
      {
        next: 'Correct the file; ARCHITECTURE.md says where its fields are described.',
        exitCode: 2,
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
