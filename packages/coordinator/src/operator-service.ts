/** The coordinator's answers to operators (proto/minikeep/v1/operator.proto). */
import type { OperatorServiceImplementation } from '@minikeep/protocol/v1';
import { runCanaries } from './canaries.ts';
import type { Cluster } from './cluster.ts';
import { deploy } from './deploy.ts';
import { generate, tokenizeFor } from './generate.ts';
import { requireModels } from './models.ts';

export function operatorService(cluster: Cluster): OperatorServiceImplementation {
  return {
    status: () => cluster.status(),
    deploy: (request, context) => deploy(cluster, request, context.signal),
    async undeploy(request) {
      await cluster.takeDown(request.name);
      return {};
    },
    async *generate(request, context) {
      yield* generate(cluster.deployment(request.deployment), request, context.signal);
    },
    tokenize: async (request, context) =>
      tokenizeFor(cluster.deployment(request.deployment), request, context.signal),
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
