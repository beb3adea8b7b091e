/** Refused attempts in the event log of the coordinator's home: those of before are read again, new ones are kept. */
import type { State } from '@minikeep/state';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { ViolationKeeper } from './violation-keeper.ts';
import type { ViolationLog } from './violation-log.ts';
import { recordOf, VIOLATION_EVENT, violationOf } from './violation-record.ts';

/** As many as are kept in memory. */
const READ_MAX = 10_000;

export interface KeptViolations {
  /** Why attempts can't be kept now; undefined while they can. */
  fault(): MinikeepError | undefined;
  close(): void;
}

export function keepViolations(state: State, log: ViolationLog): KeptViolations {
  let fault: MinikeepError | undefined;
  log.load(state.latestEvents(VIOLATION_EVENT, READ_MAX).map(violationOf));
  const keeper = new ViolationKeeper({
    keep: (batch) =>
      state.write(({ event }) => batch.map((one) => event(VIOLATION_EVENT, recordOf(one)))),
    onKept: (violation) => log.tell(violation),
    onFault: (thrown) => {
      fault = thrown === undefined ? undefined : unlogged(thrown);
    },
    now: () => performance.now(),
  });
  log.keepBy((violation) => keeper.add(violation));
  return { fault: () => fault, close: () => keeper.close() };
}

function unlogged(thrown: unknown): MinikeepError {
  const { message, next } = toMinikeepError(thrown);
  return new MinikeepError(
    'log.not_kept',
    `attempts to get out can't be written down, so nothing is served: ${message}`,
    { next, cause: thrown },
  );
}
