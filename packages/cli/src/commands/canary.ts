/** `minikeep canary`: proves on this machine, now, that an engine's sandbox holds and that attempts are seen. */
import { EXIT } from '@minikeep/protocol';
import type { CanaryAttempt, CanaryReport } from '@minikeep/protocol/v1';
import { beyondLines, groupLines, groupsOf, outcomeOf } from '../canary-groups.ts';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { withLocalSession } from '../local-session.ts';
import { Progress } from '../progress.ts';
import { runCanary } from '../run-canary.ts';

const COLUMNS_DEFAULT = 100;

export async function canary(context: CommandContext, flags: CommonFlags): Promise<number> {
  const { terminal, interrupts } = context;
  const progress = new Progress(terminal, flags.json === true);
  progress.show('starting a node');
  const options = {
    nodes: 1,
    unsafeNoSandbox: false,
    verbose: flags.verbose === true,
    json: flags.json === true,
    signal: interrupts.signal,
  };
  const [report] = await withLocalSession(context, options, (cluster) =>
    runCanary(cluster, '', interrupts.signal, (attempt) =>
      progress.show(`trying to get out: ${attempt.title}`),
    ),
  ).finally(() => progress.clear());
  if (report === undefined) return EXIT.checkFailed;
  if (flags.json === true) await terminal.json(canaryDocument(report));
  else {
    const columns = terminal.stdout.columns ?? COLUMNS_DEFAULT;
    for (const group of groupsOf(report.attempts))
      for (const line of groupLines(group, { columns, all: flags.verbose === true }))
        await terminal.line(line);
    await terminal.line();
    for (const line of beyondLines(report, columns)) await terminal.line(line);
    await terminal.paragraph(verdict(report));
  }
  return report.passed ? EXIT.ok : EXIT.checkFailed;
}

/** The one sentence that counts. */
export function verdict(report: CanaryReport): string {
  const tried = report.attempts.filter((attempt) => !attempt.skipped);
  const held = tried.filter((attempt) => outcomeOf(attempt) === 'held').length;
  const outside = tried.filter((attempt) => outcomeOf(attempt) === 'outside').length;
  const bad = tried.length - held - outside;
  const where = `${report.platform}, ${report.mechanism}`;
  if (report.passed && outside > 0)
    return `The sandbox holds: ${held} of ${tried.length} attempts were refused and reported, and ${outside} were refused by a filter around minikeep (a container's), which answers before anything can report them (${where}).`;
  if (report.passed)
    return `The sandbox holds: ${held} of ${tried.length} attempts were refused and reported (${where}).`;
  if (report.blind)
    return `BLIND: ${bad} of ${tried.length} attempts were not seen (${where}). Don't rely on the report.`;
  return `THE SANDBOX DOES NOT HOLD: ${bad} of ${tried.length} attempts failed the check (${where}).`;
}

function canaryDocument(report: CanaryReport): Record<string, unknown> {
  const attempt = (a: CanaryAttempt): Record<string, unknown> => ({
    name: a.name,
    title: a.title,
    group: a.group,
    phase: a.phase,
    target: a.target,
    refused: a.refused,
    reported: a.reported,
    refused_outside: a.refusedOutside,
    skipped: a.skipped,
    reported_as: a.reportedAs,
    observed: a.observed,
    tries: a.tries,
    fault: a.fault,
    detail: a.detail,
  });
  return {
    node: report.node,
    platform: report.platform,
    mechanism: report.mechanism,
    passed: report.passed,
    blind: report.blind,
    started_at_seconds: report.startedAtSeconds,
    duration_seconds: report.durationSeconds,
    attempts: report.attempts.map(attempt),
    inspections: report.inspections,
    declared: report.declared,
    unexplained: report.unexplained,
  };
}
