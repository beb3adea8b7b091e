/** `minikeep canary`: proves, now, that engines' sandboxes hold and that attempts are seen: here, or on nodes of a cluster. */
import { EXIT } from '@minikeep/protocol';
import type { CanaryAttempt, CanaryReport } from '@minikeep/protocol/v1';
import { beyondLines, groupLines, groupsOf, outcomeOf } from '../canary-groups.ts';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withLocalSession } from '../local-session.ts';
import { withOperator } from '../operator-connection.ts';
import { Progress } from '../progress.ts';
import { runCanary } from '../run-canary.ts';

const COLUMNS_DEFAULT = 100;

export interface CanaryFlags extends HomeFlags {
  readonly node?: string;
}

export async function canary(context: CommandContext, flags: CanaryFlags): Promise<number> {
  const onCluster = flags.node !== undefined || flags.home !== undefined;
  const reports = onCluster ? await onNodes(context, flags) : await onThisMachine(context, flags);
  if (flags.json === true)
    await terminalJson(context, reports, onCluster && flags.node === undefined);
  return reports.length > 0 && reports.every(({ passed }) => passed) ? EXIT.ok : EXIT.checkFailed;
}

/** A throw-away node of its own. */
async function onThisMachine(context: CommandContext, flags: CanaryFlags): Promise<CanaryReport[]> {
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
  const reports = await withLocalSession(context, options, (cluster) =>
    runCanary(cluster, '', interrupts.signal, {
      onAttempt: (attempt) => progress.show(`trying to get out: ${attempt.title}`),
    }),
  ).finally(() => progress.clear());
  for (const report of reports) await show(context, flags, report);
  return reports;
}

/** Each node's is shown as soon as it has ended: a node that is away must not hide what the others proved. */
async function onNodes(context: CommandContext, flags: CanaryFlags): Promise<CanaryReport[]> {
  const { terminal, interrupts } = context;
  const progress = new Progress(terminal, flags.json === true);
  return withOperator(flags, (connection) =>
    runCanary(connection, flags.node ?? '', interrupts.signal, {
      onAttempt: (attempt, node) => progress.show(`${node}: trying to get out: ${attempt.title}`),
      async onReport(report) {
        progress.clear();
        if (flags.json !== true) await terminal.line(`${report.node}:`);
        await show(context, flags, report);
      },
    }).finally(() => progress.clear()),
  );
}

async function show(
  { terminal }: CommandContext,
  flags: CanaryFlags,
  report: CanaryReport,
): Promise<void> {
  if (flags.json === true) return;
  const columns = terminal.stdout.columns ?? COLUMNS_DEFAULT;
  for (const group of groupsOf(report.attempts))
    for (const line of groupLines(group, { columns, all: flags.verbose === true }))
      await terminal.line(line);
  await terminal.line();
  for (const line of beyondLines(report, columns)) await terminal.line(line);
  await terminal.paragraph(verdict(report));
}

/** One report as it is; those of a whole cluster in one document, each attempt with its node. */
async function terminalJson(
  { terminal }: CommandContext,
  reports: readonly CanaryReport[],
  whole: boolean,
): Promise<void> {
  const documents = reports.map(canaryDocument);
  const [first] = documents;
  if (!whole) {
    if (first !== undefined) await terminal.json(first);
    return;
  }
  await terminal.json({
    passed: reports.every(({ passed }) => passed),
    nodes: documents.map(({ attempts: _attempts, ...document }) => document),
    attempts: documents.flatMap(({ node, attempts }) =>
      (attempts as Record<string, unknown>[]).map((attempt) => ({ node, ...attempt })),
    ),
  });
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
