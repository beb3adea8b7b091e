/** What the coordinator knows: nodes, deployments, refused attempts. The operator's service asks and changes it. */
import { EXIT, MinikeepError, identityUri, type Identity } from '@minikeep/protocol';
import { toErrorDetail, type CredentialPems } from '@minikeep/protocol/rpc';
import type { SealLevel } from '@minikeep/protocol/v1';
import {
  DeploymentState,
  type DeploymentStatus,
  type NodeStatus,
  type StatusResponse,
} from '@minikeep/protocol/v1';
import { Deployment, type DeploymentOptions } from './deployment.ts';
import { deploymentStatus } from './deployment-status.ts';
import { ModelLibrary } from '@minikeep/models';
import type { Models } from './models.ts';
import { OutputSetting } from './output/output-setting.ts';
import { PieceOrigin } from './piece-origin.ts';
import { NodeLink, type Greeting } from './node-link.ts';
import { leastSealed } from './seal/least.ts';
import { Policies, type PolicyStore } from './seal/policies.ts';
import { Quarantining } from './seal/quarantining.ts';
import { Seal, type SealOptions } from './seal/seal.ts';
import { ResultStreams } from './result-streams.ts';
import { planPlaced, shapeOf, type PlanningOptions } from './reconcile/plans.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import type { Lease } from './reconcile/running.ts';
import { keptStatus } from './reconcile/status.ts';
import { memoryStore, type WantedStore } from './reconcile/store.ts';
import { ViolationLog, reportedBy } from './violation-log.ts';

export interface ClusterOptions {
  readonly cluster: string;
  readonly identity: Identity;
  readonly version: string;
  readonly nodes: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  readonly credentials: CredentialPems;
  readonly cacheFolder: string;
  /** Keeps what is wanted; default: in memory. */
  readonly store?: WantedStore;
  /** What people call the cluster, and the node that the coordinator runs on; empty for a throw-away one. */
  readonly label?: { readonly name: string; readonly node: string };
  /** Where programs ask over HTTP. */
  apiUrl?(): string;
  /** What the cluster's members said of themselves; nothing for a throw-away one. */
  facts?(node: string): NodeFacts | undefined;
  /** How nodes know this process from another coordinator of the cluster; nothing for a throw-away one. */
  readonly greeting?: Greeting;
  /** A node obeys another coordinator. */
  onDisobeyed?(error: MinikeepError): void;
  /** What went wrong beside the way of any request; for the log. */
  readonly onFault?: (what: string, thrown: unknown) => void;
  readonly seal: Omit<SealOptions, 'nodes'>;
  readonly policyStore?: PolicyStore;
  /** Where the last stage sends results, the best first; known once the coordinator listens. */
  addressesFor(node: string): readonly string[];
}

/** What is known of a node apart from its link. */
export interface NodeFacts {
  readonly clockAheadSeconds: number;
  readonly certificateEndsAtMs: number;
  /** Why it is not taken for there although it calls. */
  readonly refused: MinikeepError | undefined;
}

const DISOBEYED: ReadonlySet<string> = new Set(['coordinator.outdated', 'coordinator.twice']);

export class Cluster {
  readonly library: ModelLibrary;
  /** Pieces of models, for the nodes that need them. */
  readonly origin = new PieceOrigin();
  /** Imported models; a throw-away cluster has none. */
  models: Models | undefined;
  readonly results = new ResultStreams();
  readonly violations = new ViolationLog();
  /** Why nothing can be written down now; undefined while it can. */
  unlogged: () => MinikeepError | undefined = () => undefined;
  readonly seal: Seal;
  readonly policies: Policies;
  readonly #quarantining: Quarantining;
  readonly output = new OutputSetting();
  /** Deployments that are kept: wanted, whatever is restarted. */
  readonly reconciler: Reconciler;
  readonly #store: WantedStore;
  readonly #options: ClusterOptions;
  #nodes: readonly NodeLink[] = [];
  readonly #deployments = new Map<string, Deployment>();
  #epoch = 0;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.policies = new Policies(options.policyStore);
    this.#quarantining = new Quarantining({
      policies: this.policies,
      names: () => this.#names(),
      takeDown: (name) => this.takeDown(name),
      onFault: options.onFault ?? (() => {}),
    });
    this.seal = new Seal({ nodes: () => this.nodes, ...options.seal });
    this.library = new ModelLibrary(options.cacheFolder);
    this.#store = options.store ?? memoryStore();
    this.reconciler = new Reconciler({
      store: this.#store,
      node: (name) => this.nodes.find((node) => node.name === name),
      isOther: (name) => this.#deployments.has(name) && !this.reconciler.keeps(name),
      onFault: (name, error) => this.#quarantining.refused(name, error),
      make: (made) => this.#make(made),
      forget: (deployment) => this.#forget(deployment),
      plan: (placement, signal) => planPlaced(placement, this.planning, signal),
      shape: (placement) => shapeOf(placement, this.planning),
    });
    for (const { name, addresses } of options.nodes) this.addNode(name, addresses);
  }

  /** Of minikeep. */
  get version(): string {
    return this.#options.version;
  }

  get ownNode(): string {
    return this.#options.label?.node ?? this.#options.identity.name;
  }

  /** In the order in which stages follow each other unless a deployment says otherwise. */
  get nodes(): readonly NodeLink[] {
    return this.#nodes;
  }

  addNode(name: string, addresses: readonly string[]): void {
    const { cluster, credentials, version, greeting } = this.#options;
    const link: NodeLink = new NodeLink({
      cluster,
      version,
      ...(greeting === undefined ? {} : { greeting }),
      name,
      addresses,
      credentials,
      policies: this.policies,
      onEvent: (event) => {
        if (event.$case === 'engineExit' && event.value.struck !== undefined)
          this.#quarantining.strike(name, event.value.deployment, event.value.struck);
        if (event.$case === 'violation') this.violations.add(reportedBy(name, event.value));
        for (const deployment of this.#deployments.values()) deployment.nodeEvent(link, event);
      },
      onDown: (error) => {
        for (const deployment of this.#deployments.values()) deployment.nodeDown(link, error);
        this.reconciler.nodeDown(name, error);
        if (DISOBEYED.has(error.code)) this.#options.onDisobeyed?.(error);
      },
      onUp: () => this.reconciler.nodeUp(name),
    });
    this.#nodes = [...this.#nodes, link];
    this.reconciler.nodeAdded(name);
  }

  /** Ends what runs on it; nothing is asked of it any more. */
  removeNode(name: string): void {
    const link = this.#nodes.find((node) => node.name === name);
    if (link === undefined) return;
    this.#nodes = this.#nodes.filter((node) => node !== link);
    const removed = new MinikeepError('node.removed', `node ${name} was removed from the cluster`, {
      next: 'Deploy again: the other nodes take its layers, if they have room.',
    });
    for (const deployment of this.#deployments.values()) deployment.nodeDown(link, removed);
    this.reconciler.nodeDown(name, removed);
    this.reconciler.nodeRemoved(name);
    link.close();
  }

  /** The agent process that answers at the node's address now; undefined: none, or one that doesn't say. */
  async instanceOf(name: string): Promise<string | undefined> {
    const link = this.#nodes.find((node) => node.name === name);
    return link?.instance();
  }

  /** From here on what is wanted is brought about: once it is known where results arrive. */
  start(): void {
    this.seal.start();
    this.reconciler.start();
  }

  /** What planning needs to know. */
  get planning(): PlanningOptions {
    return {
      library: this.library,
      models: this.models,
      nodesNamed: (names) => this.nodesNamed(names),
    };
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

  /** A deployment for one request; one that is kept may be waited for. Throws why it can't be served. */
  async lease(name: string, signal: AbortSignal): Promise<Lease> {
    this.policies.assertFree(name);
    const unlogged = this.unlogged();
    if (unlogged !== undefined) throw unlogged;
    const lease = this.reconciler.keeps(name)
      ? await this.reconciler.lease(name, signal)
      : { deployment: this.deployment(name), release: () => {} };
    try {
      // Of its own nodes: another one that is away is none of its business.
      this.policies.assertServing(lease.deployment.sealed);
    } catch (error) {
      lease.release();
      throw error;
    }
    return lease;
  }

  /** Throws `deployment.exists` when something of that name is up that is not kept. */
  checkFree(name: string): void {
    this.policies.assertFree(name);
    const before = this.#deployments.get(name);
    if (before !== undefined && !before.over && !this.reconciler.keeps(name)) throw exists(name);
  }

  /** Registers a new epoch of a deployment that is not kept; what it replaces must be over. Throws `deployment.exists`. */
  async begin(
    options: Pick<DeploymentOptions, 'name' | 'shape' | 'onProgress'>,
  ): Promise<Deployment> {
    const before = this.#deployments.get(options.name);
    // What the failed epoch still holds on the nodes must not be taken for the new one's.
    if (before?.state === DeploymentState.DEPLOYMENT_STATE_FAILED) await before.end();
    const other = this.#deployments.get(options.name) !== before;
    if (other || (before !== undefined && !before.over) || this.reconciler.keeps(options.name))
      throw exists(options.name);
    return this.#make({ ...options, epoch: ++this.#epoch });
  }

  /** Ends its engines; one that is kept is then no longer wanted. Throws `deployment.unknown`. */
  async takeDown(name: string, signal: AbortSignal = new AbortController().signal): Promise<void> {
    if (this.reconciler.keeps(name)) {
      await this.reconciler.down(name, signal);
      return;
    }
    await this.discard(this.deployment(name));
  }

  /** Ends a deployment that is not kept. */
  async discard(deployment: Deployment): Promise<void> {
    await deployment.end();
    this.#forget(deployment);
  }

  /** Ends what is not kept. What is goes on without us, if it is remembered. */
  async close(): Promise<void> {
    this.seal.close();
    if (this.#store.lasting) await this.reconciler.close();
    await Promise.all([...this.#deployments.keys()].map((name) => this.takeDown(name)));
    await this.reconciler.close();
    for (const node of this.nodes) node.close();
  }

  /** As it is shown. Throws `deployment.unknown`. */
  statusOf(name: string): DeploymentStatus {
    const view = this.reconciler.view(name);
    const running = this.#deployments.get(name);
    if (view === undefined || !this.reconciler.keeps(name))
      return deploymentStatus(this.deployment(name));
    const says = running === undefined ? undefined : deploymentStatus(running);
    return keptStatus(view, says, this.reconciler.unavailable(name));
  }

  #make(
    options: Omit<
      DeploymentOptions,
      'origin' | 'nodes' | 'credentials' | 'own' | 'results' | 'sealOf'
    >,
  ): Deployment {
    const { credentials, identity } = this.#options;
    const deployment = new Deployment({
      ...options,
      origin: this.origin,
      nodes: this.nodes,
      credentials,
      own: {
        uri: identityUri(identity),
        addressesFor: (node) => this.#options.addressesFor(node.name),
      },
      results: this.results,
      sealOf: (nodes) => this.seal.verdict(nodes).level,
    });
    this.#deployments.set(options.name, deployment);
    return deployment;
  }

  #forget(deployment: Deployment): void {
    const { name } = deployment;
    if (this.#deployments.get(name) === deployment) this.#deployments.delete(name);
  }

  /** Waits until every node was tried once, so that a new coordinator does not call its nodes unreachable. */
  async status(): Promise<StatusResponse> {
    await Promise.all(this.nodes.map((node) => node.tried));
    return {
      clusterId: this.#options.cluster,
      minikeepVersion: this.#options.version,
      sealed: this.sealed(),
      nodes: this.nodes.map((node) => this.#nodeStatus(node)),
      deployments: this.#names().map((name) => this.statusOf(name)),
      violations: this.violations.total,
      clusterName: this.#options.label?.name ?? '',
      coordinatorNode: this.#options.label?.node ?? '',
      apiUrl: this.#options.apiUrl?.() ?? '',
    };
  }

  /** Of everything that serves; without a deployment, what the next engine will get. */
  sealed(): SealLevel {
    const serving = [...this.#deployments.values()].filter(
      (d) => d.state === DeploymentState.DEPLOYMENT_STATE_READY,
    );
    return leastSealed([this.seal.verdict().level, ...serving.map((d) => d.sealed)]);
  }

  #names(): string[] {
    const kept = this.reconciler.views.map(({ row }) => row.name);
    return [
      ...new Set([
        ...this.#deployments.keys(),
        ...kept.filter((name) => this.reconciler.keeps(name)),
      ]),
    ];
  }

  #nodeStatus(node: NodeLink): NodeStatus {
    const { hello, heartbeat } = node;
    const facts = this.#options.facts?.(node.name);
    const error = node.up ? undefined : (facts?.refused ?? node.error);
    return {
      node: node.name,
      address: node.address,
      links: node.up ? [...node.measuredLinks] : [],
      addresses: node.address === '' ? [] : [...node.ways],
      reachable: node.up,
      error: error === undefined ? undefined : toErrorDetail(error),
      platform: hello?.platform ?? '',
      cpuCount: hello?.cpuCount ?? 0,
      memoryBytes: hello?.memoryBytes ?? 0,
      memoryAvailableBytes: heartbeat?.memoryAvailableBytes ?? 0,
      agentRssBytes: heartbeat?.rssBytes ?? 0,
      sandbox: hello?.sandbox,
      agentPid: hello?.pid ?? 0,
      heartbeatAgeSeconds: node.heartbeatAgeSeconds,
      violations: this.violations.totalOf(node.name),
      draining: this.reconciler.isDraining(node.name),
      minikeepVersion: hello?.minikeepVersion ?? '',
      clockAheadSeconds: facts?.clockAheadSeconds ?? 0,
      certificateEndsAtSeconds: (facts?.certificateEndsAtMs ?? 0) / 1000,
      modelCheck: node.modelCheck,
      speed: node.speed,
      wiredLimitBytes: hello?.wiredLimitBytes ?? 0,
    };
  }
}

function exists(name: string): MinikeepError {
  return new MinikeepError('deployment.exists', `${name} is already deployed`, {
    next: 'Take it down first with `minikeep down`.',
    exitCode: EXIT.usage,
  });
}
