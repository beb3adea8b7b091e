/** What a trusted process is started with: one JSON document in a file, checked before anything is done with it. */
import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { EXIT, MinikeepError } from './errors.ts';
import { isName } from './identity.ts';

const CONFIG_BYTES_MAX = 1024 * 1024;

/** Fields that every process's configuration has. */
export const NAME_FIELD = z.string().refine(isName, 'not a name');
export const COMMON_CONFIG = {
  cluster: NAME_FIELD,
  /** host:port; port 0 lets the kernel choose. */
  listen: z.string().min(3).max(300),
  credentials: z.strictObject({
    authority: z.string(),
    certificate: z.string(),
    privateKey: z.string(),
  }),
  /** Ends when its standard input does: a local cluster's process must not outlive who started it. */
  end_with_stdin: z.boolean().default(false),
  /** Removed when the process ends: a throw-away cluster's keys must not outlive it. */
  temporary_folder: z.string().min(1).optional(),
};

/** Reads and checks the configuration file of `program` ("agent"). Throws `config.unreadable`, `config.invalid`. */
export async function readConfig<T>(
  schema: z.ZodType<T>,
  file: string,
  program: string,
): Promise<T> {
  let text: string;
  try {
    const found = await stat(file);
    // A pipe may never end, and a device never does.
    if (!found.isFile()) throw invalid(file, program, 'it is no ordinary file');
    if (found.size > CONFIG_BYTES_MAX) throw invalid(file, program, 'it is too long');
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if (cause instanceof MinikeepError) throw cause;
    throw new MinikeepError('config.unreadable', `can't read the configuration "${file}"`, {
      next: `Give the path of an existing file: ${program}.mjs CONFIG.json`,
      exitCode: EXIT.usage,
      cause,
    });
  }
  return parseConfig(schema, text, file, program);
}

/** As `readConfig`, from the document itself; `source` names it in errors. */
export function parseConfig<T>(
  schema: z.ZodType<T>,
  text: string,
  source: string,
  program: string,
): T {
  if (text.length > CONFIG_BYTES_MAX) throw invalid(source, program, 'it is too long');
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw invalid(source, program, cause instanceof Error ? cause.message : 'not JSON');
  }
  const parsed = schema.safeParse(document);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const at = issue?.path.join('.') ?? '';
  throw invalid(source, program, `${at}: ${issue?.message ?? 'unknown fault'}`);
}

function invalid(source: string, program: string, why: string): MinikeepError {
  return new MinikeepError(
    'config.invalid',
    `the ${program}'s configuration ${source} is not valid: ${why}`,
    {
      next: 'Correct the file; ARCHITECTURE.md says where its fields are described.',
      exitCode: EXIT.usage,
    },
  );
}
