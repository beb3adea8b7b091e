/**
 * `minikeep demo`: the whole thing in half a minute. Three nodes answer a question; then a hostile program in an
 * engine's sandbox tries to get out. It shows what happens and claims only what it has just seen.
 */
import { EXIT, toMinikeepError } from '@minikeep/protocol';
import type { CanaryReport } from '@minikeep/protocol/v1';
import { formatBytes } from '@minikeep/planner';
import { setTimeout as sleep } from 'node:timers/promises';
import { groupLines, groupsOf } from '../canary-groups.ts';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import type { LocalCluster } from '../local-cluster.ts';
import { planLocally } from '../local-plan.ts';
import { withLocalSession } from '../local-session.ts';
import { knownModels, modelFile } from '../models.ts';
import { Pace } from '../pace.ts';
import { Progress } from '../progress.ts';
import { runCanary } from '../run-canary.ts';
import { verdict } from './canary.ts';
import { deploy, type Deployed } from './deploy.ts';
import { generate, type Answer } from './generate.ts';

const NODES = 3;
const CANARY_NODE = 'node-2';
const QUESTION = 'Why is a model not trusted?';
const ANSWER_TOKENS_MAX = 120;
/** A person reads along: no more than this many tokens a second. */
const TOKEN_INTERVAL_MS = 45;
const GROUP_INTERVAL_MS = 120;
const COLUMNS_DEFAULT = 100;
/** What an agent says that has no canary for its platform. */
const UNSUPPORTED = 'canary.unsupported';

export interface DemoFlags extends CommonFlags {
  readonly model?: string;
  readonly prompt?: string;
  /** Random weights: the answer means nothing, and has no chat template. */
  readonly random?: boolean;
}

export async function demo(context: CommandContext, flags: DemoFlags): Promise<number> {
  const { terminal, interrupts, distFolder } = context;
  const { signal } = interrupts;
  const modelPath = modelFile(flags.model, knownModels(distFolder), distFolder);
  const { placement } = await planLocally(modelPath, NODES, { mode: 'exact' });
  const progress = new Progress(terminal, false);
  progress.show(`starting ${NODES} nodes`);
  const options = {
    nodes: NODES,
    unsafeNoSandbox: false,
    verbose: flags.verbose === true,
    json: flags.json === true,
    signal,
  };
  const report = await withLocalSession(context, options, async (cluster) => {
    const { cuts } = placement;
    const deployed = await deploy(cluster, { modelPath, mode: 'exact', cuts }, progress, signal);
    await showNodes(context, cluster, deployed);
    const answer = await ask(context, cluster, deployed, flags, progress);
    await showNumbers(context, answer);
    return tryToGetOut(context, cluster, progress);
  });
  await conclude(context, report, flags);
  return report === undefined || report.passed ? EXIT.ok : EXIT.checkFailed;
}

async function showNodes(
  { terminal }: CommandContext,
  cluster: LocalCluster,
  { status }: Deployed,
): Promise<void> {
  await terminal.paragraph(
    `${status.architecture}, ${status.layers} layers, over ${NODES} nodes (here each is a process; they talk mutual TLS):`,
  );
  for (const stage of status.stages) {
    const address = cluster.nodes.find((node) => node.name === stage.node)?.address ?? '';
    const last = (stage.layers?.end ?? 1) - 1;
    await terminal.line(
      `  ${stage.node}  ${address.padEnd(16)} layers ${`${stage.layers?.start}–${last}`.padEnd(6)} ${formatBytes(stage.sliceBytes).padStart(9)}  engine ${stage.enginePid}, ${stage.sandboxed ? 'locked in' : 'NOT LOCKED IN'}`,
    );
  }
}

async function ask(
  { terminal, interrupts }: CommandContext,
  cluster: LocalCluster,
  deployed: Deployed,
  flags: DemoFlags,
  progress: Progress,
): Promise<Answer> {
  const question = flags.prompt ?? QUESTION;
  await terminal.line();
  await terminal.line(`> ${question}`);
  const pace = new Pace(TOKEN_INTERVAL_MS);
  const answer = await terminal.allWordsOf(
    generate(cluster, {
      deployment: deployed.name,
      prompt:
        flags.random === true
          ? { raw: question }
          : { messages: [{ role: 'user', content: question }] },
      sampling: { temperature: 0, seed: 0, stop: [] },
      maxTokens: ANSWER_TOKENS_MAX,
      signal: interrupts.signal,
      async onToken({ text }) {
        progress.clear();
        await pace.turn(interrupts.signal);
        await terminal.words(text);
      },
    }),
  );
  if (!answer.text.endsWith('\n')) await terminal.line();
  return answer;
}

async function showNumbers({ terminal }: CommandContext, { done }: Answer): Promise<void> {
  await terminal.line();
  await terminal.paragraph(
    `${done.completionTokens} tokens, the first after ${done.firstTokenSeconds.toFixed(2)} s. Computing: ${done.stages
      .map((stage) => `${stage.node} ${stage.computeSeconds.toFixed(2)} s`)
      .join(', ')}.`,
  );
}

async function tryToGetOut(
  { terminal, interrupts }: CommandContext,
  cluster: LocalCluster,
  progress: Progress,
): Promise<CanaryReport | undefined> {
  await terminal.line();
  await terminal.line(
    `Now a hostile program inside an engine's sandbox on ${CANARY_NODE} tries to get out:`,
  );
  const [report] = await runCanary(cluster, CANARY_NODE, interrupts.signal, {
    onAttempt: (attempt) => progress.show(`trying: ${attempt.title}`),
  })
    .catch((thrown: unknown) => {
      if (toMinikeepError(thrown).code !== UNSUPPORTED) throw thrown;
      return [undefined];
    })
    .finally(() => progress.clear());
  if (report === undefined) {
    await terminal.line('  – not here: there is no canary for this platform in this build');
    return undefined;
  }
  const columns = terminal.stdout.columns ?? COLUMNS_DEFAULT;
  for (const group of groupsOf(report.attempts)) {
    for (const line of groupLines(group, { columns, all: false })) await terminal.line(line);
    if (terminal.stdout.isTTY)
      await sleep(GROUP_INTERVAL_MS, undefined, { signal: interrupts.signal });
  }
  return report;
}

async function conclude(
  { terminal }: CommandContext,
  report: CanaryReport | undefined,
  flags: DemoFlags,
): Promise<void> {
  const proven = [
    `${NODES} processes with certificates of their own computed one model together; hidden rows went from node to node.`,
    ...(report === undefined ? [] : [verdict(report)]),
  ];
  const open = [
    ...(report === undefined ? ['That the sandbox holds: it was there, and nobody tried it.'] : []),
    ...(flags.random === true
      ? ['That the answer makes sense: this model has random weights.']
      : []),
    'That the split computes exactly what the whole does: minikeep model check FILE proves that for a file.',
    'Anything about real machines and cables: all nodes are on this one.',
    'Other programs of this machine: only engines are locked in; the firewall around a node comes with the seal.',
    'Side channels (timing, caches), the kernel and the hardware: no program can prove those from inside.',
  ];
  await terminal.line();
  await terminal.line('Proven just now:');
  for (const text of proven) await terminal.paragraph(text, '  + ');
  await terminal.line('Not proven:');
  for (const text of open) await terminal.paragraph(text, '  - ');
  await terminal.line();
  await terminal.line('All processes have ended and the folder with their keys is gone.');
}
