/** A canary's report as it travels. Its words are escaped where they come from; here they are bounded. */
import type { CanaryAttempt, CanaryInspection, CanaryReport } from '@minikeep/containment';
import type {
  CanaryAttempt as AttemptMessage,
  CanaryReport as ReportMessage,
} from '@minikeep/protocol/v1';

const TEXT_LENGTH_MAX = 2_000;
const UNEXPLAINED_MAX = 100;

const cut = (text: string): string => text.slice(0, TEXT_LENGTH_MAX);

export function attemptMessage(attempt: CanaryAttempt): AttemptMessage {
  const { name, title, group, phase, refused, reported, tries } = attempt;
  return {
    name,
    title,
    refused,
    reported,
    refusedOutside: attempt.refused_outside,
    detail: cut(attempt.fault === '' ? attempt.reported_as : attempt.fault),
    skipped: false,
    group,
    phase,
    target: cut(attempt.target),
    reportedAs: cut(attempt.reported_as),
    observed: cut(attempt.observed),
    tries,
    fault: cut(attempt.fault),
  };
}

export function reportMessage(report: CanaryReport, node: string): ReportMessage {
  const broken = report.inspections.filter((inspection) => !inspection.ok);
  return {
    node,
    platform: report.platform,
    mechanism: report.mechanism,
    attempts: [...report.attempts.map(attemptMessage), ...broken.map(failedInspection)],
    passed: report.ok,
    blind: report.state === 'blind',
    startedAtSeconds: report.started_at_seconds,
    durationSeconds: report.duration_seconds,
    inspections: report.inspections.map(({ name, title, ok, finding }) => ({
      name,
      title,
      ok,
      finding: cut(finding),
    })),
    declared: report.declared.map(({ name, what, why }) => ({ name, what, why })),
    unexplained: report.unexplained.slice(0, UNEXPLAINED_MAX).map(cut),
  };
}

/** What was looked at and did not hold counts like an attempt that got through; what held was no attempt. */
function failedInspection({ name, title, finding }: CanaryInspection): AttemptMessage {
  return {
    name,
    title,
    refused: false,
    reported: false,
    refusedOutside: false,
    detail: cut(finding),
    skipped: false,
    group: 'inspection',
    phase: 'sealed',
    target: '',
    reportedAs: '',
    observed: '',
    tries: 1,
    fault: cut(finding),
  };
}
