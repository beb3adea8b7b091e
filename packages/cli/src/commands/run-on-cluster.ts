/** `minikeep run --home DIR`: a model that is up on a cluster answers. */
import { modelDigest, openModel } from '@minikeep/gguf';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import {
  DeploymentState,
  SealStatusServiceDefinition,
  type DeploymentStatus,
} from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import { typedPath } from '../home-folder.ts';
import { EMBEDDED_MODEL, knownModels, looksLikePath, modelAndPrompt } from '../models.ts';
import { withOperator, type OperatorConnection } from '../operator-connection.ts';
import { Progress } from '../progress.ts';
import { readPrompt } from '../prompt-input.ts';
import { answerOnce, checkChat, promptOf, samplingOf } from './ask.ts';
import { chat } from './chat.ts';
import { quarantineText } from '../quarantine-text.ts';
import type { RunFlags } from './ready.ts';

/** What `up` decided; asking can't change it. */
const DECIDED = [
  'local',
  'cuts',
  'context',
  'threads',
  'unsafeNoSandbox',
  'acceptChanged',
] as const;

/** Errors: `usage.decided_by_up`, `usage.file_on_cluster`, `run.*`, those of the connection and of the coordinator. */
export async function runOnCluster(
  context: CommandContext,
  first: string | undefined,
  second: string | undefined,
  flags: RunFlags,
): Promise<number> {
  const { terminal, interrupts } = context;
  const decided = DECIDED.find((name) => flags[name] !== undefined);
  if (decided !== undefined) throw decidedByUp(decided);
  if (first !== undefined && looksLikePath(first)) throw fileOnCluster(first);
  const signal = AbortSignal.any([interrupts.signal, terminal.outputClosed]);
  return withOperator(flags, async (connection) => {
    const { deployments } = await connection.operator.status({}, { signal });
    const imported = await connection.operator.listModels({}, { signal });
    const known = new Set([
      ...deployments.map(({ name }) => name),
      ...imported.models.map(({ name }) => name),
    ]);
    const asked = modelAndPrompt(first, second, known);
    if (asked.prompt === undefined) checkChat(context, flags);
    if (asked.model !== undefined && !deployments.some(({ name }) => name === asked.model))
      await assertNotQuarantined(asked.model, connection, signal);
    const deployment = chosen(asked.model, deployments, known, connection);
    if (flags.mode === 'fast') throw decidedByUp('mode');
    const { name, stages } = deployment;
    if (asked.model === undefined && flags.json !== true)
      terminal.note(
        `No MODEL is named: ${name} answers, which is up on ${connection.settings.cluster_name}.`,
      );
    const embedded = await isEmbedded(deployment, context.distFolder);
    const sampling = samplingOf(flags, embedded);
    const ready = { context, session: connection, deployed: { name, stages }, flags, sampling };
    if (asked.prompt === undefined) await chat(ready);
    else {
      const text = await readPrompt(asked.prompt, terminal.stdin, interrupts.signal);
      const progress = new Progress(terminal, flags.json === true);
      await answerOnce(ready, promptOf(text, flags), progress, signal);
    }
    return EXIT.ok;
  });
}

/** Throws `deployment.quarantined`: it is not just down. */
async function assertNotQuarantined(
  name: string,
  { service }: OperatorConnection,
  signal: AbortSignal,
): Promise<void> {
  const { quarantined } = await service(SealStatusServiceDefinition).sealStatus({}, { signal });
  const found = quarantined.find(({ deployment }) => deployment === name);
  if (found !== undefined)
    throw new MinikeepError('deployment.quarantined', quarantineText(found), {
      next: 'See what it tried: minikeep violations',
      exitCode: EXIT.denied,
    });
}

function chosen(
  name: string | undefined,
  deployments: readonly DeploymentStatus[],
  known: ReadonlySet<string>,
  { folder, settings }: OperatorConnection,
): DeploymentStatus {
  const exists = deployments.filter(
    ({ state }) =>
      state !== DeploymentState.DEPLOYMENT_STATE_FAILED &&
      state !== DeploymentState.DEPLOYMENT_STATE_STOPPING,
  );
  const names = exists.map((deployment) => deployment.name).join(', ');
  if (name === undefined) {
    const [only, another] = exists;
    if (only === undefined)
      throw new MinikeepError('run.nothing_up', `no model is up on ${settings.cluster_name}`, {
        next: `minikeep up NAME --home ${typedPath(folder)}   (minikeep model list has the names)`,
      });
    if (another !== undefined)
      throw new MinikeepError('run.which_model', `several models are up: ${names}`, {
        next: 'Name one before the prompt.',
        exitCode: EXIT.usage,
      });
    return only;
  }
  const found = exists.find((deployment) => deployment.name === name);
  if (found !== undefined) return found;
  if (known.has(name))
    throw new MinikeepError('run.not_up', `${name} is imported, but not up`, {
      next: `minikeep up ${name} --home ${typedPath(folder)}`,
    });
  throw new MinikeepError(
    'model.unknown',
    `${settings.cluster_name} has no model called ${JSON.stringify(name)}`,
    {
      next: `${names === '' ? 'Nothing is up' : `Up: ${names}`}. A prompt of several words goes in quotes.`,
      exitCode: EXIT.usage,
    },
  );
}

/** The embedded model answers alike wherever it runs: its digest tells it, not its name. */
async function isEmbedded({ modelSha256 }: DeploymentStatus, distFolder: string): Promise<boolean> {
  const file = knownModels(distFolder).get(EMBEDDED_MODEL);
  if (file === undefined) return false;
  return (await modelDigest(await openModel(file))) === modelSha256;
}

function decidedByUp(name: string): MinikeepError {
  const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  return new MinikeepError(
    'usage.decided_by_up',
    `${flag} was decided when the model came up on the cluster`,
    {
      next: `Leave it out; or bring the model up anew with it; or leave --home out for a throw-away cluster.`,
      exitCode: EXIT.usage,
    },
  );
}

function fileOnCluster(file: string): MinikeepError {
  return new MinikeepError(
    'usage.file_on_cluster',
    `a cluster answers with models that were imported, and ${file} is a path`,
    {
      next: `minikeep model import ${file}, then minikeep up NAME; or leave --home out for a throw-away cluster.`,
      exitCode: EXIT.usage,
    },
  );
}
