/** The coordinator's answers to operators (proto/minikeep/v1/operator.proto). */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { OperatorServiceImplementation } from '@minikeep/protocol/v1';
import { runCanaries } from './canaries.ts';
import type { Cluster } from './cluster.ts';
import { doctorOn } from './doctors.ts';
import { deploy } from './deploy.ts';
import { tokenizeFor } from './generate.ts';
import type { Lasting } from './lasting.ts';
import { events } from './membership/services.ts';
import { requireModels } from './models.ts';
import { guardedAnswer } from './output/guarded-answer.ts';
import { snapshot } from './snapshot.ts';
import { measureNodes } from './speeds.ts';
import { drainNode } from './reconcile/requests.ts';

/** `lasting`: what only a cluster with a home has. */
export function operatorService(
  cluster: Cluster,
  lasting: Lasting | undefined,
): OperatorServiceImplementation {
  return {
    status: () => cluster.status(),
    deploy: (request, context) => deploy(cluster, request, context.signal),
    async undeploy(request, context) {
      await cluster.takeDown(request.name, context.signal);
      return {};
    },
    drainNode: (request, context) =>
      drainNode(cluster, request.node, request.timeoutSeconds, context.signal),
    async resumeNode(request) {
      await cluster.reconciler.resume(request.node);
      return {};
    },
    async *generate(request, context) {
      const { deployment, release } = await cluster.lease(request.deployment, context.signal);
      try {
        yield* guardedAnswer(cluster, deployment, request, context.signal);
      } finally {
        release();
      }
    },
    async tokenize(request, context) {
      const { deployment, release } = await cluster.lease(request.deployment, context.signal);
      try {
        return await tokenizeFor(deployment, request, context.signal);
      } finally {
        release();
      }
    },
    listModels: async () => ({ models: await requireModels(cluster.models).list() }),
    importModel: (request, context) =>
      requireModels(cluster.models).import(request, context.signal),
    removeModel: (request) => requireModels(cluster.models).remove(request.name),
    violations: (request, context) => cluster.violations.stream(request.follow, context.signal),
    async invite(request) {
      const made = lastingOf(lasting).members.invite(request.expiresSeconds);
      return {
        token: made.token,
        expiresAtSeconds: made.expiresAtMs / 1000,
        addresses: made.addresses,
      };
    },
    removeNode: (request, context) =>
      lastingOf(lasting).removeNode(request.node, request.force, context.signal),
    events: (request, context) => events(lastingOf(lasting).state, request, context.signal),
    async *doctorNode(request, context) {
      const [node] = cluster.nodesNamed([request.node]);
      if (node !== undefined) yield* doctorOn(node, request.modelCheck, context.signal);
    },
    snapshotState: (_request, context) => snapshot(lastingOf(lasting).state, context.signal),
    measureNodes: (request, context) =>
      measureNodes(cluster.nodesNamed(request.node === '' ? [] : [request.node]), context.signal),
    async *runCanary(request, context) {
      const nodes = cluster.nodesNamed(request.node === '' ? [] : [request.node]);
      yield* runCanaries(nodes, context.signal);
    },
  };
}

function lastingOf(lasting: Lasting | undefined): Lasting {
  if (lasting !== undefined) return lasting;
  throw new MinikeepError('cluster.throw_away', 'a throw-away cluster has no members and no log', {
    next: 'Make a cluster that stays: minikeep init',
    exitCode: EXIT.usage,
  });
}
