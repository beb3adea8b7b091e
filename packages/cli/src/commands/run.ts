/** `minikeep run`: a model, split over the nodes of a throw-away cluster on this machine (or of one that stays), answers. */
import { noTemplate, noVocabulary } from '@minikeep/engine/text-errors';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { CommandContext } from '../command-context.ts';
import { LOCAL_NODES_DEFAULT } from '../defaults.ts';
import { planLocally } from '../local-plan.ts';
import { withLocalSession } from '../local-session.ts';
import {
  EMBEDDED_MODEL,
  knownModels,
  looksLikePath,
  modelAndPrompt,
  modelFile,
} from '../models.ts';
import { Progress } from '../progress.ts';
import { readPrompt } from '../prompt-input.ts';
import { chat } from './chat.ts';
import { deploy, type Deployed } from './deploy.ts';
import { answerOnce, checkChat, promptOf, samplingOf } from './ask.ts';
import type { RunFlags } from './ready.ts';

const EMBEDDED_NOTE = `No MODEL is named: ${EMBEDDED_MODEL} answers, the small model that comes with minikeep and knows only minikeep.`;

export async function run(
  context: CommandContext,
  first: string | undefined,
  second: string | undefined,
  flags: RunFlags,
): Promise<number> {
  const { terminal, interrupts, distFolder } = context;
  if (asksCluster(first, flags)) {
    const { runOnCluster } = await import('./run-on-cluster.ts');
    return runOnCluster(context, first, second, flags);
  }
  const known = knownModels(distFolder);
  const asked = modelAndPrompt(first, second, known);
  if (asked.prompt === undefined) checkChat(context, flags);
  const nodes = nodeCount(flags);
  const modelPath = modelFile(asked.model, known, distFolder);
  const prompt =
    asked.prompt === undefined
      ? undefined
      : promptOf(await readPrompt(asked.prompt, terminal.stdin, interrupts.signal), flags);
  const embedded = modelPath === known.get(EMBEDDED_MODEL);
  if (asked.model === undefined && flags.json !== true) terminal.note(EMBEDDED_NOTE);
  const { placement, hasVocabulary, hasTemplate } = await planLocally(modelPath, nodes, flags);
  // The engine would say the same, after everything has started.
  if (!hasVocabulary) throw noVocabulary();
  if (!hasTemplate && flags.raw !== true) throw noTemplate();
  const signal = AbortSignal.any([interrupts.signal, terminal.outputClosed]);
  const progress = new Progress(terminal, flags.json === true);
  progress.show('starting the nodes');
  const options = {
    nodes,
    unsafeNoSandbox: flags.unsafeNoSandbox === true,
    acceptChanged: flags.acceptChanged === true,
    verbose: flags.verbose === true,
    json: flags.json === true,
    signal,
  };
  return withLocalSession(context, options, async (session) => {
    const deployOptions = {
      modelPath,
      mode: flags.mode,
      cuts: placement.cuts,
      ...(flags.context === undefined ? {} : { contextTokens: flags.context }),
      ...(flags.threads === undefined ? {} : { threads: flags.threads }),
    };
    const deployed = await deploy(session, deployOptions, progress, signal);
    if (flags.verbose === true) describe(context, deployed);
    const { name, status } = deployed;
    const asked = { name, stages: status.stages };
    const ready = {
      context,
      session,
      deployed: asked,
      flags,
      sampling: samplingOf(flags, embedded),
    };
    if (prompt === undefined) await chat(ready);
    else await answerOnce(ready, prompt, progress, signal);
    return EXIT.ok;
  });
}

/** A home that the environment names steps back behind what only a throw-away cluster can do. */
function asksCluster(first: string | undefined, flags: RunFlags): boolean {
  if (flags.home !== undefined) return true;
  if ((process.env['MINIKEEP_HOME'] ?? '') === '') return false;
  const throwAway = flags.local !== undefined || flags.cuts !== undefined;
  return !throwAway && (first === undefined || !looksLikePath(first));
}

function nodeCount(flags: RunFlags): number {
  const fromCuts = flags.cuts === undefined ? undefined : flags.cuts.length + 1;
  const nodes = flags.local ?? fromCuts ?? LOCAL_NODES_DEFAULT;
  if (fromCuts !== undefined && fromCuts !== nodes)
    throw new MinikeepError(
      'usage.cuts',
      `--cuts ${flags.cuts?.join(',')} makes ${fromCuts} stages, but --local asks for ${nodes} nodes`,
      { next: `Leave --local out, or give ${nodes - 1} cuts.`, exitCode: EXIT.usage },
    );
  return nodes;
}

function describe({ terminal }: CommandContext, { status, plan, seconds }: Deployed): void {
  terminal.note(
    `${status.architecture}, ${status.layers} layers, SHA-256 ${status.modelSha256}, up in ${seconds.toFixed(1)} s`,
  );
  for (const stage of status.stages)
    terminal.note(
      `  ${stage.node}: layers ${stage.layers?.start}–${(stage.layers?.end ?? 1) - 1}, engine ${stage.enginePid}${stage.sandboxed ? ', sandboxed' : ', NO SANDBOX'}`,
    );
  if (plan !== undefined && plan.cuts.length > 0) terminal.note(`  cuts: ${plan.cuts.join(',')}`);
}
