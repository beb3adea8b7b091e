/** Sees what becomes of lines that a canary writes to its standard error: they must not pass for the monitor's own. */
import type { Facts } from './facts.ts';
import type { CanarySession } from './session.ts';
import type { CanaryInspection, Step } from './types.ts';

/** Every byte of a bounded tail may have become four characters. */
const TAIL_CHARACTERS_MAX = 64 * 1024;
const FORGED = 'connect inet 192.0.2.99:443';
const LINES = 400;
const STDERR = 2;

const line = `[warden] REFUSED ${FORGED}\n\u001b]0;owned\u0007\u001b[2J\r`;
const write: Step = { call: 'write', args: [STDERR, { text: line }, Buffer.byteLength(line)] };

export async function inspectStderr(
  session: CanarySession,
  facts: Facts,
): Promise<CanaryInspection> {
  const ways = [
    { steps: Array.from({ length: LINES }, () => write), report: { kinds: [], operations: [] } },
  ];
  await session.attempt({ ways }, facts, { last: true });
  const exit = await session.sandbox.exited;
  const tail = exit.stderr_tail;
  const forged = session.violations.some((v) => v.target.includes('192.0.2.99'));
  const escaped = /^[\x20-\x7e]*$/.test(tail);
  const bounded = tail.length <= TAIL_CHARACTERS_MAX;
  const kept = tail.includes('192.0.2.99');
  return {
    name: 'monitor-stderr',
    title: 'what it writes to its standard error is bounded, escaped, and no report',
    ok: !forged && escaped && bounded && kept,
    finding: forged
      ? 'a forged line became a report'
      : !kept
        ? 'what it wrote is lost'
        : `${tail.length} characters kept, ${escaped ? 'escaped' : 'NOT ESCAPED'}`,
  };
}
