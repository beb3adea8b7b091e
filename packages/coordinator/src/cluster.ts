/** What the coordinator knows: nodes, deployments, refused attempts. The operator's service asks and changes it. */
import { EXIT, MinikeepError, identityUri, type Identity } from '@minikeep/protocol';
import { toErrorDetail, type CredentialPems } from '@minikeep/protocol/rpc';
import {
  DeploymentState,
  SealLevel,
  type DeploymentStatus,
  type NodeStatus,
  type StatusResponse,
} from '@minikeep/protocol/v1';
import { Deployment, type DeploymentOptions } from './deployment.ts';
import { ModelLibrary } from '@minikeep/models';
import type { Models } from './models.ts';
import { PieceOrigin } from './piece-origin.ts';
import { NodeLink } from './node-link.ts';
import { leastSealed } from './seal.ts';
import { ResultStreams } from './result-streams.ts';
import { ViolationLog, reportedBy } from './violation-log.ts';

export interface ClusterOptions {
  readonly cluster: string;
  readonly identity: Identity;
  readonly version: string;
  readonly nodes: readonly { readonly name: string; readonly address: string }[];
  readonly credentials: CredentialPems;
  readonly cacheFolder: string;
  /** Where the last stage sends results; known once the coordinator listens. */
  address(): string;
}

export class Cluster {
  readonly library: ModelLibrary;
  /** Pieces of models, for the nodes that need them. */
  readonly origin = new PieceOrigin();
  /** Imported models; a throw-away cluster has none. */
  models: Models | undefined;
  readonly results = new ResultStreams();
  readonly violations = new ViolationLog();
  readonly nodes: readonly NodeLink[];
  readonly #options: ClusterOptions;
  readonly #deployments = new Map<string, Deployment>();
  #epoch = 0;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.library = new ModelLibrary(options.cacheFolder);
    const { cluster, credentials } = options;
    this.nodes = options.nodes.map(({ name, address }) => {
      const link: NodeLink = new NodeLink({
        cluster,
        name,
        address,
        credentials,
        onEvent: (event) => {
          if (event.$case === 'violation') this.violations.add(reportedBy(name, event.value));
          for (const deployment of this.#deployments.values()) deployment.nodeEvent(link, event);
        },
        onDown: (error) => {
          for (const deployment of this.#deployments.values()) deployment.nodeDown(link, error);
        },
      });
      return link;
    });
  }

  /** The nodes of that name, in that order; all for an empty list. Throws `node.unknown`. */
  nodesNamed(names: readonly string[]): readonly NodeLink[] {
    if (names.length === 0) return this.nodes;
    if (new Set(names).size < names.length)
      throw new MinikeepError('node.twice', 'a node is named twice', {
        next: 'Name each node once: a node has one stage of a deployment.',
        exitCode: EXIT.usage,
      });
    return names.map((name) => {
      const link = this.nodes.find((node) => node.name === name);
      if (link !== undefined) return link;
      throw new MinikeepError('node.unknown', `there is no node ${name.slice(0, 80)}`, {
        next: `Nodes are: ${this.nodes.map((node) => node.name).join(', ')}.`,
        exitCode: EXIT.usage,
      });
    });
  }

  /** Throws `deployment.unknown`. */
  deployment(name: string): Deployment {
    const found = this.#deployments.get(name);
    if (found !== undefined) return found;
    throw new MinikeepError('deployment.unknown', `there is no deployment ${name.slice(0, 80)}`, {
      next: 'Deploy a model first; `minikeep status` shows what there is.',
      exitCode: EXIT.usage,
    });
  }

  /** Registers a new epoch of a deployment; what it replaces must be over. Throws `deployment.exists`. */
  async begin(
    options: Pick<DeploymentOptions, 'name' | 'shape' | 'onProgress'>,
  ): Promise<Deployment> {
    const before = this.#deployments.get(options.name);
    // What the failed epoch still holds on the nodes must not be taken for the new one's.
    if (before?.state === DeploymentState.DEPLOYMENT_STATE_FAILED) await before.end();
    if (this.#deployments.get(options.name) !== before || (before !== undefined && !before.over))
      throw new MinikeepError('deployment.exists', `${options.name} is already deployed`, {
        next: 'Take it down first with `minikeep down`.',
        exitCode: EXIT.usage,
      });
    const { credentials, identity } = this.#options;
    const deployment = new Deployment({
      ...options,
      epoch: ++this.#epoch,
      origin: this.origin,
      nodes: this.nodes,
      credentials,
      own: { uri: identityUri(identity), address: this.#options.address() },
      results: this.results,
    });
    this.#deployments.set(options.name, deployment);
    return deployment;
  }

  async takeDown(name: string): Promise<void> {
    const deployment = this.deployment(name);
    await deployment.end();
    if (this.#deployments.get(name) === deployment) this.#deployments.delete(name);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#deployments.keys()].map((name) => this.takeDown(name)));
    for (const node of this.nodes) node.close();
  }

  /** Waits until every node was tried once, so that a new coordinator does not call its nodes unreachable. */
  async status(): Promise<StatusResponse> {
    await Promise.all(this.nodes.map((node) => node.tried));
    const deployments = [...this.#deployments.values()];
    const serving = deployments.filter((d) => d.state === DeploymentState.DEPLOYMENT_STATE_READY);
    const sandboxes = this.nodes.map((node) => node.hello);
    // Without a deployment the level is what the next engine will get.
    const enforced = sandboxes.every((h) => h?.sandbox?.ok === true && !h.sandboxOff);
    const sealed =
      serving.length > 0
        ? leastSealed(serving.map((d) => d.sealed))
        : enforced
          ? SealLevel.SEAL_LEVEL_ENGINE
          : SealLevel.SEAL_LEVEL_NONE;
    return {
      clusterId: this.#options.cluster,
      minikeepVersion: this.#options.version,
      sealed,
      nodes: this.nodes.map((node) => this.#nodeStatus(node)),
      deployments: deployments.map((d) => deploymentStatus(d)),
      violations: this.violations.total,
    };
  }

  #nodeStatus(node: NodeLink): NodeStatus {
    const { hello, heartbeat } = node;
    return {
      node: node.name,
      address: node.address,
      reachable: node.up,
      error: node.up || node.error === undefined ? undefined : toErrorDetail(node.error),
      platform: hello?.platform ?? '',
      cpuCount: hello?.cpuCount ?? 0,
      memoryBytes: hello?.memoryBytes ?? 0,
      memoryAvailableBytes: heartbeat?.memoryAvailableBytes ?? 0,
      agentRssBytes: heartbeat?.rssBytes ?? 0,
      sandbox: hello?.sandbox,
      agentPid: hello?.pid ?? 0,
      heartbeatAgeSeconds: node.heartbeatAgeSeconds,
      violations: this.violations.totalOf(node.name),
    };
  }
}

export function deploymentStatus(deployment: Deployment): DeploymentStatus {
  const { shape, pipeline, error } = deployment;
  return {
    name: deployment.name,
    state: deployment.state,
    epoch: deployment.epoch,
    modelPath: shape.modelPath,
    modelSha256: shape.modelSha256,
    architecture: shape.architecture,
    layers: shape.stages.at(-1)?.layers[1] ?? 0,
    context: shape.context,
    sealed: deployment.sealed,
    stages: deployment.stageStatus,
    sequencesActive: pipeline?.activeSequences ?? 0,
    requestsQueued: pipeline?.queuedRequests ?? 0,
    error: error === undefined ? undefined : toErrorDetail(error),
  };
}
