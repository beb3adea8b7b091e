/** What the coordinator's own guard refused, among the attempts of its node. */
import type { Guarding } from '@minikeep/containment/guarded';
import { reportedBy, type ViolationLog } from './violation-log.ts';

/** `node`: on whose machine the coordinator runs. */
export function recordOwn(guarding: Guarding, node: string, log: ViolationLog): void {
  if (guarding.state !== 'on') return;
  guarding.guard.onViolation((violation) => {
    const { instance, sequence, purpose, kind, operation, target, count, stopped } = violation;
    const message = {
      node,
      deployment: '',
      epoch: 0,
      instance,
      sequence,
      purpose,
      atSeconds: violation.at_seconds,
      kind,
      operation,
      target,
      refusedBy: violation.refused_by,
      seenBy: [...violation.seen_by],
      count,
      stopped,
    };
    log.add(reportedBy(node, message));
  });
}
