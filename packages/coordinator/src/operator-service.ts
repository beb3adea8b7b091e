/** The coordinator's answers to operators (proto/minikeep/v1/operator.proto). */
import type { OperatorServiceImplementation } from '@minikeep/protocol/v1';
import { runCanaries } from './canaries.ts';
import type { Cluster } from './cluster.ts';
import { deploy } from './deploy.ts';
import { generate, tokenizeFor } from './generate.ts';
import { requireModels } from './models.ts';
import { drainNode } from './reconcile/requests.ts';

export function operatorService(cluster: Cluster): OperatorServiceImplementation {
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
        yield* generate(deployment, request, context.signal);
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
    async *runCanary(request, context) {
      const nodes = cluster.nodesNamed(request.node === '' ? [] : [request.node]);
      yield* runCanaries(nodes, context.signal);
    },
  };
}
