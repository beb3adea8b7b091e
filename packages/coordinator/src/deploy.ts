/** Deploy: the plan, perhaps the canary, then the deployment's own steps, as one stream of progress. */
import { EXIT, EventQueue, MinikeepError, isName, toMinikeepError } from '@minikeep/protocol';
import {
  DeployPhase,
  type DeployProgress,
  type DeployRequest,
  type DeployResponse,
  type StageStatus,
} from '@minikeep/protocol/v1';
import { checkUnchecked } from './doctors.ts';
import { runCanaries } from './canaries.ts';
import type { Cluster } from './cluster.ts';
import type { Deployment } from './deployment.ts';
import {
  chooseNodes,
  leftOutMessages,
  otherVersion,
  withLeftOut,
  type LeftOut,
} from './deploy-nodes.ts';
import { slicesOf, wholePlan } from './deployment-steps.ts';
import { forecast } from './forecast.ts';
import { checkTransfers } from './send-slices.ts';
import { planDeployment, type DeploymentPlan } from './deployment-plan.ts';
import { requireModels } from './models.ts';
import type { NodeLink } from './node-link.ts';
import { measureUnmeasured } from './speeds.ts';
import { bringUpKept } from './reconcile/requests.ts';

const EVENTS_MAX = 10_000;
/** Progress is shown to people: no finer than this. */
const PROGRESS_STEP = 0.005;

type DeployEvent = NonNullable<DeployResponse['event']>;

export async function* deploy(
  cluster: Cluster,
  request: DeployRequest,
  signal: AbortSignal,
): AsyncGenerator<DeployResponse, void, undefined> {
  if (!isName(request.name))
    throw new MinikeepError(
      'deployment.name_invalid',
      `"${request.name.slice(0, 80)}" is not a name`,
      {
        next: 'Use lower-case letters, digits, dots, underscores and hyphens.',
        exitCode: EXIT.usage,
      },
    );
  const events = new EventQueue<DeployResponse>(EVENTS_MAX);
  const work = run(cluster, request, throttled(events), signal);
  work.then(
    () => events.end(),
    (error: unknown) => events.end(toMinikeepError(error)),
  );
  let told = false;
  try {
    for await (const event of events) {
      told ||= event.event?.$case === 'ready' && !signal.aborted;
      yield event;
    }
  } finally {
    // Whoever asked may be gone: the abort signal ends the work, and this waits until nothing is left of it.
    const made = await work.catch(() => {});
    // It was called off while its last step was done: nobody knows that it is up.
    if (!told && made !== undefined) await cluster.discard(made);
  }
}

/** Returns the deployment, unless it is one that is kept. */
async function run(
  cluster: Cluster,
  request: DeployRequest,
  tell: (event: DeployEvent) => void,
  signal: AbortSignal,
): Promise<Deployment | undefined> {
  const started = performance.now();
  const progress = (phase: DeployPhase, doneBytes: number, totalBytes: number): void =>
    tell({
      $case: 'progress',
      value: {
        phase,
        fraction: totalBytes === 0 ? 1 : doneBytes / totalBytes,
        doneBytes,
        totalBytes,
        predictedSeconds: 0,
      },
    });
  /** Of work that isn't bytes. */
  const part = (phase: DeployPhase, fraction: number): void =>
    tell({
      $case: 'progress',
      value: { phase, fraction, doneBytes: 0, totalBytes: 0, predictedSeconds: 0 },
    });
  const { nodes, leftOut } = await nodesFor(cluster, request);
  part(DeployPhase.DEPLOY_PHASE_CHECKING, 0);
  await Promise.all(nodes.map((node) => checkNode(node, cluster.version)));
  const anyOrder = request.nodes.length === 0;
  if (request.keep && request.runCanary && request.cuts.length === 0 && nodes.length > 1) {
    const unmeasured = nodes.filter(({ speed }) => speed === undefined).length;
    let done = 0;
    const measured = (): void => part(DeployPhase.DEPLOY_PHASE_MEASURING, done++ / unmeasured);
    if (unmeasured > 0) measured();
    await measureUnmeasured(nodes, signal, measured);
  }
  const plan = await planDeployment(
    {
      model: request.model === '' ? request.modelPath : importedModel(cluster, request.model),
      cuts: request.cuts,
      context: request.context,
      noText: request.noText,
      anyOrder,
    },
    nodes,
    cluster.library,
    (done, total) => progress(DeployPhase.DEPLOY_PHASE_CHECKING, done, total),
    signal,
  ).catch((thrown: unknown) => {
    throw withLeftOut(toMinikeepError(thrown), leftOut);
  });
  tell({ $case: 'plan', value: { ...planMessage(plan), leftOut: leftOutMessages(leftOut) } });
  const { source } = plan;
  const coming = await checkTransfers(slicesOf(plan, wholePlan(plan)), {
    source,
    nodes: cluster.nodes,
    signal,
  });
  const predictedSeconds = await forecast(coming);
  if (predictedSeconds !== undefined) {
    const totalBytes = coming.reduce((sum, one) => sum + one.fromHere + one.fromNodes, 0);
    const phase = DeployPhase.DEPLOY_PHASE_SENDING;
    tell({
      $case: 'progress',
      value: { phase, fraction: 0, doneBytes: 0, totalBytes, predictedSeconds },
    });
  }
  if (request.runCanary) {
    part(DeployPhase.DEPLOY_PHASE_CANARY, 0);
    // A node that was told to do without a sandbox has none to try; it counts as unsealed.
    const walled = plan.stages.map((s) => s.node).filter((node) => node.hello?.sandboxOff !== true);
    for await (const { event } of runCanaries(walled, signal))
      if (event?.$case === 'report') {
        tell({ $case: 'canary', value: event.value });
        const { passed, blind, node } = event.value;
        if (!passed && !(blind && cluster.policies.whenBlind === 'serve'))
          throw canaryFailed(node, blind);
      }
  }
  if (request.keep && request.runCanary) {
    // Once for each machine: its backend may compute a split model otherwise than the whole.
    part(DeployPhase.DEPLOY_PHASE_CHECKING, 0);
    await checkUnchecked(
      plan.stages.map(({ node }) => node),
      signal,
    );
  }
  const onProgress = (value: DeployProgress): void => tell({ $case: 'progress', value });
  const { name } = request;
  let deployment: Deployment | undefined;
  if (request.keep) {
    const model = request.model === '' ? name : request.model;
    await bringUpKept(cluster, name, model, plan, onProgress, signal);
  } else {
    deployment = await cluster.begin({ name, shape: plan, onProgress });
    await deployment.start(plan, signal);
  }
  const totalSeconds = (performance.now() - started) / 1000;
  tell({ $case: 'ready', value: { deployment: cluster.statusOf(name), totalSeconds } });
  return deployment;
}

/** Those asked for; else all that are there and in service. A coordinator that has just started tries each once before. */
async function nodesFor(
  cluster: Cluster,
  request: DeployRequest,
): Promise<{ nodes: readonly NodeLink[]; leftOut: readonly LeftOut[] }> {
  const nodes = cluster.nodesNamed(request.nodes);
  if (request.nodes.length > 0) return { nodes, leftOut: [] };
  await Promise.all(nodes.map((node) => node.tried));
  const { used, leftOut } = chooseNodes(
    nodes.map(({ name, up, error, hello }) => {
      const draining = cluster.reconciler.isDraining(name);
      return { name, up, error, draining, version: hello?.minikeepVersion ?? '' };
    }),
    cluster.version,
  );
  return { nodes: nodes.filter(({ name }) => used.includes(name)), leftOut };
}

/** The file and digest of an imported model. Throws `model.unknown`, `cluster.no_home`. */
function importedModel(cluster: Cluster, name: string): { sha256: string; path: string } {
  return requireModels(cluster.models).named(name);
}

/** Before anything is read or sent: is it of our version, and can it lock an engine in, or was it told not to? */
async function checkNode(node: NodeLink, version: string): Promise<void> {
  const { sandbox, sandboxOff, minikeepVersion } = await node.reachable();
  if (minikeepVersion !== version) throw otherVersion(node.name, minikeepVersion, version);
  if (sandboxOff || sandbox?.ok === true) return;
  const missing = (sandbox?.missing ?? []).map((m) => m.what).join('; ');
  throw new MinikeepError(
    'sandbox.unsupported',
    `node ${node.name} can't lock an engine in: ${missing === '' ? 'unknown reason' : missing}`,
    {
      next: sandbox?.missing[0]?.next ?? 'Run `minikeep doctor` there.',
      details: { node: node.name },
    },
  );
}

function canaryFailed(node: string, blind: boolean): MinikeepError {
  return new MinikeepError(
    blind ? 'canary.blind' : 'canary.failed',
    blind
      ? `the canary on node ${node} was refused everything, but not all of it was seen`
      : `the canary on node ${node} found a way out`,
    {
      next: blind
        ? 'Run `minikeep canary` to see which attempt; nothing was loaded. To serve all the same, said to be blind everywhere: minikeep seal policy --when-blind serve'
        : 'Run `minikeep canary` to see which attempt; nothing was loaded.',
      exitCode: EXIT.checkFailed,
      details: { node },
    },
  );
}

function planMessage(plan: DeploymentPlan) {
  return {
    architecture: plan.architecture,
    layers: plan.stages.at(-1)?.layers[1] ?? 0,
    cuts: [...plan.cuts],
    modelSha256: plan.modelSha256,
    context: plan.context,
    stages: plan.stages.map(({ node, layers, sliceBytes }): StageStatus => ({
      node: node.name,
      layers: { start: layers[0], end: layers[1] },
      sliceBytes,
      memory: undefined,
      enginePid: 0,
      sandboxed: false,
      loadSeconds: 0,
    })),
  };
}

/** Passes progress on only when it is worth showing; everything else always. */
function throttled(events: EventQueue<DeployResponse>): (event: DeployEvent) => void {
  let phase: DeployPhase | undefined;
  let shown = 0;
  return (event) => {
    if (event.$case === 'progress') {
      const { fraction } = event.value;
      const same = event.value.phase === phase;
      if (same && fraction < 1 && fraction - shown < PROGRESS_STEP) return;
      if (same && fraction === shown) return;
      phase = event.value.phase;
      shown = fraction;
    }
    events.push({ event });
  };
}
