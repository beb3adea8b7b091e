/** The coordinator's answers to operators (proto/minikeep/v1/operator.proto). */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { OperatorServiceImplementation } from '@minikeep/protocol/v1';
import { runCanaries } from './canaries.ts';
import type { Cluster } from './cluster.ts';
import { deploy } from './deploy.ts';
import { generate, tokenizeFor } from './generate.ts';
import type { Models } from './models.ts';

/** `models`: only a cluster with a home has any. */
export function operatorService(cluster: Cluster, models?: Models): OperatorServiceImplementation {
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
    listModels: async () => ({ models: await known(models).list() }),
    importModel: (request, context) => known(models).import(request, context.signal),
    removeModel: (request) => known(models).remove(request.name),
    violations: (request, context) => cluster.violations.stream(request.follow, context.signal),
    async *runCanary(request, context) {
      const nodes = cluster.nodesNamed(request.node === '' ? [] : [request.node]);
      yield* runCanaries(nodes, context.signal);
    },
  };
}

function known(models: Models | undefined): Models {
  if (models !== undefined) return models;
  throw new MinikeepError('cluster.no_home', 'a throw-away cluster knows no models', {
    next: 'Make a cluster with a home first: minikeep init',
    exitCode: EXIT.usage,
  });
}
