/**
 * Reads Seatbelt's refusals from `log stream --style ndjson`. Any process can log any text, so an event counts only
 * when the kernel sent it through the sandbox extension and it carries the engine's random tag. The log is lossy and
 * says so: then the reader is blind, which is a state of its own and never "nothing happened".
 */
import { z } from 'zod';
import type { ViolationKind } from '../sandbox.ts';

export const LOG_COMMAND = [
  '/usr/bin/log',
  'stream',
  '--style',
  'ndjson',
  '--level',
  'debug',
  '--predicate',
  'senderImagePath CONTAINS[c] "sandbox"',
] as const;

/** An event has about 1 KiB; a longer line is not one of ours, and is not kept. */
export const LOG_LINE_BYTES_MAX = 64 * 1024;
const TARGET_CHARACTERS_MAX = 300;
const KERNEL_PROCESS = 0;
const KERNEL_PATHS = new Set(['/kernel']);
const SENDER = /\/Sandbox\.kext\//;
const REFUSAL = /^Sandbox: (.{1,200})\((\d{1,10})\) deny\(\d+\) (\S{1,100})(?: (.*))?$/;
const DUPLICATES = /^(\d{1,9}) duplicate reports? for (Sandbox: .*)$/;
const DROPPED = 'Messages dropped';

const event = z.looseObject({
  eventMessage: z.string(),
  processID: z.int(),
  processImagePath: z.string(),
  senderImagePath: z.string(),
});

export type LogFinding =
  | {
      readonly type: 'refusal';
      readonly tag: string;
      readonly pid: number;
      readonly kind: ViolationKind;
      readonly operation: string;
      /** Escaped ASCII, bounded. */
      readonly target: string;
      readonly count: number;
    }
  /** The log lost events, or the reader can't read it: what was not seen is unknown. */
  | { readonly type: 'blind'; readonly why: string };

const KINDS: readonly (readonly [RegExp, ViolationKind])[] = [
  [/^(network|system-socket)/, 'network'],
  [/^file-(write|link|clone|ioctl)|^system-fsctl/, 'write'],
  [/^file-/, 'read'],
  [/^process-(exec|fork)|^job-creation/, 'exec'],
  [/^signal/, 'signal'],
  [/^mach-|^ipc-|^appleevent|^iokit/, 'ipc'],
  [/^process-info|^dynamic-code|^mach-priv/, 'memory'],
];
const MDNS_SOCKET = /\/mDNSResponder$/;

export function kindOf(operation: string, target: string): ViolationKind {
  if (operation.startsWith('network') && MDNS_SOCKET.test(target)) return 'dns';
  return KINDS.find(([pattern]) => pattern.test(operation))?.[1] ?? 'other';
}

/** Printable ASCII; everything else as \uNNNN. */
export function escaped(text: string): string {
  return text
    .slice(0, TARGET_CHARACTERS_MAX)
    .replaceAll(
      /[^\u0020-\u007e]|["\\]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
    .slice(0, TARGET_CHARACTERS_MAX);
}

/** One line of the log; undefined when it is nobody's refusal of ours. `tag` is the engine's. */
export function readLogLine(line: string, tag: string): LogFinding | undefined {
  if (line.includes(DROPPED) && line.startsWith('==='))
    return { type: 'blind', why: 'the log dropped messages' };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined; // the header that `log` prints first, or a line cut at the end
  }
  const parsed = event.safeParse(value);
  if (!parsed.success) return undefined;
  const { eventMessage, processID, processImagePath, senderImagePath } = parsed.data;
  if (
    processID !== KERNEL_PROCESS ||
    !KERNEL_PATHS.has(processImagePath) ||
    !SENDER.test(senderImagePath)
  )
    return undefined;
  const [first = '', second = ''] = eventMessage.split('\n');
  if (second.trim() !== tag) return undefined;
  const duplicate = DUPLICATES.exec(first);
  const refusal = REFUSAL.exec(duplicate?.[2] ?? first);
  if (refusal === null) return { type: 'blind', why: 'a refusal has a form that is not known' };
  const operation = refusal[3] ?? '';
  const target = refusal[4] ?? '';
  return {
    type: 'refusal',
    tag,
    pid: Number(refusal[2]),
    kind: kindOf(operation, target),
    operation: escaped(operation),
    target: escaped(target),
    count: duplicate === null ? 1 : Number(duplicate[1]),
  };
}

/** Cuts the stream into lines; a line beyond the limit is skipped to its end and makes the reader blind. */
export class LogLines {
  readonly #tag: string;
  readonly #tell: (finding: LogFinding) => void;
  #rest = '';
  #skipping = false;
  #decoder = new TextDecoder();

  constructor(tag: string, tell: (finding: LogFinding) => void) {
    this.#tag = tag;
    this.#tell = tell;
  }

  push(chunk: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (this.#skipping) {
        this.#skipping = false;
        continue;
      }
      const finding = readLogLine(line, this.#tag);
      if (finding !== undefined) this.#tell(finding);
    }
    if (this.#rest.length > LOG_LINE_BYTES_MAX) {
      this.#rest = '';
      if (!this.#skipping) this.#tell({ type: 'blind', why: 'a line of the log is too long' });
      this.#skipping = true;
    }
  }
}
