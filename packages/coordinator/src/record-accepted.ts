/** Programs that are not what they should be, and that somebody accepted: before anything else is done with them. */
import type { State } from '@minikeep/state';
import type { HomeCoordinatorConfig } from './config.ts';

/** An entry of the log has room for so many; the count says how many there were. */
const FILES_MAX = 32;

export function recordAccepted(
  state: State,
  accepted: NonNullable<HomeCoordinatorConfig['accepted_changed']>,
): void {
  if (accepted.length === 0) return;
  const files = accepted.slice(0, FILES_MAX);
  state.write(({ event }) => event('supply.accepted_changed', { count: accepted.length, files }));
}
