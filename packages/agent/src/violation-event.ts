/** A sandbox's violation as it travels. Its text is already escaped and bounded by the sandbox; it is bounded again. */
import type { Violation } from '@minikeep/containment';
import type { Violation as ViolationMessage } from '@minikeep/protocol/v1';

const TEXT_LENGTH_MAX = 300;

export function violationEvent(
  violation: Violation,
  node: string,
  deployment: string,
  epoch: number,
): ViolationMessage {
  const cut = (text: string): string => text.slice(0, TEXT_LENGTH_MAX);
  return {
    node,
    deployment,
    epoch,
    instance: cut(violation.instance),
    sequence: violation.sequence,
    purpose: violation.purpose,
    atSeconds: violation.at_seconds,
    kind: violation.kind,
    operation: cut(violation.operation),
    target: cut(violation.target),
    refusedBy: violation.refused_by,
    seenBy: [...violation.seen_by],
    count: violation.count,
    stopped: violation.stopped,
  };
}
