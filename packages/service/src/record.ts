/** What was changed on this machine, kept so that `remove` undoes exactly that. Written before each change is made. */
import { MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import type { Undo } from './change.ts';
import { THIS_MACHINE, type Machine } from './machine.ts';

/** Root's own folder: whoever may write it can have commands run as root. */
export const RECORD_FILE = '/etc/minikeep/service.json';
const RECORD_BYTES_MAX = 1024 * 1024;
const UNDO_MAX = 200;

const ARGV = z.tuple([z.string().startsWith('/')], z.string().max(4096));
const UNDO = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('run'),
    what: z.string(),
    argv: ARGV,
    gone: z.array(z.number().int()).optional(),
  }),
  z.strictObject({
    kind: z.literal('file'),
    what: z.string(),
    path: z.string().startsWith('/'),
    before: z.strictObject({ content: z.string(), mode: z.number().int() }).optional(),
  }),
]);

const RECORD = z.strictObject({
  format: z.literal(1),
  manager: z.enum(['systemd', 'launchd']),
  version: z.string(),
  home: z.string().startsWith('/'),
  program: z.string().startsWith('/'),
  user: z.string(),
  /** Undone from the last to the first. */
  undo: z.array(UNDO).max(UNDO_MAX),
});

export interface ServiceRecord extends Omit<z.infer<typeof RECORD>, 'undo'> {
  readonly undo: readonly Undo[];
}

/** The home of the service installed here, for anybody to ask; undefined: there is none, or its record is not sound. */
export function serviceHome(machine: Machine = THIS_MACHINE): string | undefined {
  try {
    return readRecord(machine)?.home;
  } catch {
    return undefined;
  }
}

/** Undefined: no service was installed. Throws `service.record_damaged`. */
export function readRecord(machine: Machine): ServiceRecord | undefined {
  const text = machine.read(RECORD_FILE);
  if (text === undefined) return undefined;
  const facts = machine.stat(RECORD_FILE);
  // Commands in it are run as root.
  const trusted = facts !== undefined && facts.uid === 0 && (facts.mode & 0o022) === 0;
  let document: unknown;
  try {
    document = text.length > RECORD_BYTES_MAX ? undefined : JSON.parse(text);
  } catch {
    document = undefined;
  }
  const parsed = RECORD.safeParse(document);
  if (parsed.success && trusted) return parsed.data;
  throw new MinikeepError(
    'service.record_damaged',
    trusted
      ? `${RECORD_FILE}, the record of what was changed here, is damaged`
      : `${RECORD_FILE} may be written by others than root`,
    {
      next: `Look at it, move it away, and install again: sudo mv ${RECORD_FILE} ${RECORD_FILE}.damaged`,
    },
  );
}

export function writeRecord(machine: Machine, record: ServiceRecord): void {
  machine.write(RECORD_FILE, `${JSON.stringify(record, null, 2)}\n`, 0o644);
}
