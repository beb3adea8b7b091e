/** Answers operators about the event log (proto/minikeep/v1/audit.proto). */
import { CALL_TIMEOUT_MS, MinikeepError } from '@minikeep/protocol';
import { deadline, isSigned } from '@minikeep/protocol/rpc';
import type {
  AuditServiceImplementation,
  LogHead,
  RememberedHead,
  VerifyResponse,
} from '@minikeep/protocol/v1';
import type { State } from '@minikeep/state';
import type { NodeLink } from '../node-link.ts';
import type { Heads } from './heads.ts';

const PAGE = 1_000;

export interface AuditOptions {
  readonly state: State;
  readonly heads: Heads;
  readonly nodes: () => readonly NodeLink[];
  /** The authority's certificate, PEM. */
  readonly authority: string;
}

export const auditService = (options: AuditOptions): AuditServiceImplementation => ({
  verify: (_, { signal }) => verify(options, signal),
  async *exportLog(_, { signal }) {
    for (let from = 1; ;) {
      signal.throwIfAborted();
      const page = options.state.rawEvents(from, PAGE);
      for (const { number, atMs, kind, text, digest } of page)
        yield { number, atMs, kind, dataJson: text, digest };
      const last = page.at(-1);
      if (last === undefined) return;
      from = last.number + 1;
    }
  },
  head: () => Promise.resolve({ head: options.heads.current() }),
});

async function verify(
  { state, heads, nodes, authority }: AuditOptions,
  signal: AbortSignal,
): Promise<VerifyResponse> {
  const remembered = await Promise.all(
    nodes().map((node) => compared(node, state, authority, signal)),
  );
  try {
    const entries = state.verifyAllEvents();
    return { entries, head: heads.current(), firstBad: 0, fault: '', nodes: remembered };
  } catch (thrown) {
    if (!(thrown instanceof MinikeepError) || thrown.code !== 'events.broken') throw thrown;
    const bad = thrown.details['entry'];
    return {
      entries: 0,
      head: undefined,
      firstBad: typeof bad === 'number' ? bad : 1,
      fault: thrown.message,
      nodes: remembered,
    };
  }
}

/** Every head that the node remembers: of an edited log the oldest that does not fit any more. */
async function compared(
  { name, up, agent }: NodeLink,
  state: State,
  authority: string,
  signal: AbortSignal,
): Promise<RememberedHead> {
  const answer = (what: string, text = '', number = 0): RememberedHead => ({
    node: name,
    state: what,
    number,
    what: text,
  });
  if (!up) return answer('away');
  let heads: readonly LogHead[];
  try {
    ({ heads } = await agent.heads({}, { signal: deadline(CALL_TIMEOUT_MS, signal) }));
  } catch {
    signal.throwIfAborted();
    return answer('away', 'it did not answer');
  }
  const good = heads.filter((head) => isSigned(head, authority));
  for (const head of good) {
    const what = state.differs(head);
    if (what !== '') return answer('differs', what, head.number);
  }
  const newest = good.at(-1);
  return newest === undefined ? answer('none') : answer('agrees', '', newest.number);
}
