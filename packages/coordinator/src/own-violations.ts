/** What the coordinator's own guard refused, among the attempts of its node. */
import type { Guarding } from '@minikeep/containment/guarded';
import { Redactor } from '@minikeep/containment/violation-message';
import { reportedBy, type ViolationLog } from './violation-log.ts';

/** `node`: on whose machine the coordinator runs. Returns what knows the targets in whole. */
export function recordOwn(
  guarding: Guarding,
  node: string,
  key: Uint8Array,
  log: ViolationLog,
): Redactor {
  const redactor = new Redactor(key);
  if (guarding.state === 'on')
    guarding.guard.onViolation((violation) => {
      const message = redactor.message(violation, { node, deployment: '', epoch: 0 });
      log.add(reportedBy(node, message));
    });
  return redactor;
}
