/**
 * Checks what the canary says: one JSON document a line, bounded. It is our own program, but it stands where an
 * engine stands, so its words are untrusted until they have the right form, and never prove who says them.
 */
import { MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import { type CanaryLine, LINE_BYTES_MAX } from './wire.ts';

const observed = z.strictObject({
  step: z.int().min(0).max(10_000),
  call: z.string().max(100),
  result: z.string().max(40),
  errno: z.int().min(0).max(10_000),
  refused: z.boolean(),
  note: z.string().max(200),
});

const wayOutcome = z.strictObject({
  outcome: z.enum(['refused', 'done', 'unprepared']),
  steps: z.array(observed).max(2000),
});

const line = z.discriminatedUnion('event', [
  z.strictObject({ event: z.literal('ready'), pid: z.int(), node: z.string().max(40) }),
  z.strictObject({ event: z.literal('begin'), number: z.int() }),
  z.strictObject({ event: z.literal('end'), number: z.int(), ways: z.array(wayOutcome).max(1000) }),
  z.strictObject({ event: z.literal('fault'), message: z.string().max(1000) }),
]);

export function parseCanaryLine(text: string): CanaryLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw protocolFault('it is not JSON', cause);
  }
  const parsed = line.safeParse(value);
  if (!parsed.success)
    throw protocolFault(parsed.error.issues[0]?.message ?? 'wrong form', parsed.error);
  return parsed.data;
}

export function protocolFault(what: string, cause?: unknown): MinikeepError {
  return new MinikeepError(
    'canary.protocol',
    `the canary wrote a line that can't be used: ${what}`,
    {
      next: 'Build again with `npm run build`; if it stays, report it as a fault in minikeep.',
      cause,
    },
  );
}

/** Cuts a stream of bytes into lines; throws `canary.protocol` on one that is too long. */
export function lineSplitter(onLine: (line: string) => void): (chunk: Uint8Array) => void {
  let parts: Buffer[] = [];
  let bytes = 0;
  return (chunk) => {
    let rest = Buffer.from(chunk);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const text = Buffer.concat([...parts, rest.subarray(0, end)]).toString('utf8');
      parts = [];
      bytes = 0;
      rest = rest.subarray(end + 1);
      onLine(text);
    }
    bytes += rest.length;
    if (bytes > LINE_BYTES_MAX) throw protocolFault(`it is longer than ${LINE_BYTES_MAX} bytes`);
    if (rest.length > 0) parts.push(rest);
  };
}
