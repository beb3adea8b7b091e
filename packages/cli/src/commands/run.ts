/** `minikeep run`: a model, split over the nodes of a throw-away cluster on this machine, answers. */
import { noTemplate, noVocabulary } from '@minikeep/engine/text-errors';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { randomInt } from 'node:crypto';
import type { CommandContext } from '../command-context.ts';
import { LOCAL_NODES_DEFAULT, SEED_MAX } from '../defaults.ts';
import { planLocally } from '../local-plan.ts';
import { withLocalSession } from '../local-session.ts';
import { EMBEDDED_MODEL, knownModels, modelAndPrompt, modelFile } from '../models.ts';
import { Progress } from '../progress.ts';
import { readPrompt } from '../prompt-input.ts';
import { chat } from './chat.ts';
import { deploy, type Deployed } from './deploy.ts';
import { answerOf } from './answer.ts';
import { doneDocument, type Prompt, type SamplingFlags } from './generate.ts';
import { warnOfViolations, type Ready, type RunFlags } from './ready.ts';

const EMBEDDED_NOTE = `No MODEL is named: ${EMBEDDED_MODEL} answers, the small model that comes with minikeep and knows only minikeep.`;

export async function run(
  context: CommandContext,
  first: string | undefined,
  second: string | undefined,
  flags: RunFlags,
): Promise<number> {
  const { terminal, interrupts, distFolder } = context;
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
    const ready = { context, session, deployed, flags, sampling: samplingOf(flags, embedded) };
    if (prompt === undefined) await chat(ready);
    else await answerOnce(ready, prompt, progress, signal);
    return EXIT.ok;
  });
}

/** Without a PROMPT there must be a person to chat with. */
function checkChat({ terminal }: CommandContext, flags: RunFlags): void {
  const problem = !terminal.interactive
    ? 'there is no PROMPT, and no terminal to chat on'
    : flags.json === true
      ? 'a chat has no --json form'
      : flags.raw === true
        ? 'a chat needs the chat template: --raw goes with a PROMPT'
        : undefined;
  if (problem !== undefined)
    throw new MinikeepError('usage.no_prompt', problem, {
      next: 'Give a PROMPT, or - to read it from stdin.',
      exitCode: EXIT.usage,
    });
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

function promptOf(text: string, flags: RunFlags): Prompt {
  if (flags.raw === true) return { raw: text };
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return { messages: [...system, { role: 'user', content: text }] };
}

/** A model as small as the embedded one is right only where it is sure: it says the most likely token unless told otherwise. */
function samplingOf(flags: RunFlags, embedded: boolean): SamplingFlags {
  const { topK, topP, minP, repeatPenalty } = flags;
  const temperature = flags.temperature ?? (embedded ? 0 : undefined);
  return {
    seed: flags.seed ?? randomInt(SEED_MAX + 1),
    stop: flags.stop,
    ...(temperature === undefined ? {} : { temperature }),
    ...(topK === undefined ? {} : { topK }),
    ...(topP === undefined ? {} : { topP }),
    ...(minP === undefined ? {} : { minP }),
    ...(repeatPenalty === undefined ? {} : { repeatPenalty }),
  };
}

async function answerOnce(
  ready: Ready,
  prompt: Prompt,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { sampling, flags } = ready;
  const { terminal } = ready.context;
  const json = flags.json === true;
  const { text, done } = await terminal.allWordsOf(
    answerOf(ready, {
      prompt,
      progress,
      signal,
      async onToken(token) {
        if (json) await terminal.json({ type: 'token', id: token.id, text: token.text });
        else await terminal.words(token.text);
      },
    }),
  );
  if (json) await terminal.json(doneDocument(done, sampling.seed));
  else if (!text.endsWith('\n')) await terminal.line();
  if (flags.verbose === true)
    terminal.note(
      `${done.promptTokens} tokens of prompt at ${done.promptTokensPerSecond.toFixed(1)}/s, ${done.completionTokens} of answer at ${done.decodeTokensPerSecond.toFixed(1)}/s, seed ${sampling.seed}`,
    );
  if (done.violations > 0) await warnOfViolations(ready, signal);
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
