/**
 * A cluster whose coordinator remembers what is wanted, and whose processes a test can kill and start again at the same
 * addresses, as a machine's service would.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { GuardedProcess } from '@minikeep/containment';
import { connect, type CredentialPems } from '@minikeep/protocol/rpc';
import {
  ExactMode,
  OperatorServiceDefinition,
  type DeployResponse,
  type DeploymentStatus,
} from '@minikeep/protocol/v1';
import { Home, State } from '@minikeep/state';
import { ChildProcess } from '../src/child-process.ts';
import type { LocalCluster } from '../src/local-cluster.ts';
import { DIST, alive, credentials, start, type Cache } from './cluster-helpers.ts';

const GUARD = { listen: ['127.0.0.1:0'], networks: [], discovery: false };

export const NAME = 'kept';
type DeployEvent = NonNullable<DeployResponse['event']>;

export class KeptCluster {
  readonly local: LocalCluster;
  readonly home: string;
  readonly #model: string;
  readonly #operator: CredentialPems;
  readonly #children = new Map<string, ChildProcess>();
  readonly #pids = new Map<string, number>();
  #close: () => void = () => {};
  /** The cluster as the helpers want it, with the coordinator of now. */
  now: LocalCluster;

  private constructor(local: LocalCluster, model: string, operator: CredentialPems) {
    this.local = local;
    this.now = local;
    this.#model = model;
    this.#operator = operator;
    this.home = mkdtempSync(path.join(tmpdir(), 'minikeep-kept-'));
    for (const { name, pid } of local.nodes) this.#pids.set(name, pid);
  }

  static async start(nodes: number, model: string, cache: Cache): Promise<KeptCluster> {
    const local = await start(nodes, cache);
    const kept = new KeptCluster(local, model, await credentials(local, 'operator', 'local'));
    kept.#pids.set('coordinator', local.coordinator.pid);
    await kept.killCoordinator();
    kept.#rows();
    await kept.startCoordinator();
    return kept;
  }

  /** Everything ends, also what a test left half-way. */
  async stop(): Promise<void> {
    this.#close();
    await Promise.all([...this.#children.values()].map((child) => child.stop()));
    await this.local.stop();
    rmSync(this.home, { recursive: true, force: true });
  }

  async startCoordinator(): Promise<void> {
    const { cluster } = this.local.authority;
    const config = this.#config('coordinator');
    const { address } = await this.#run('coordinator', 'coordinator', {
      ...config,
      listen: this.local.coordinator.address,
      state_home: this.home,
    });
    this.#close();
    const connection = connect(
      OperatorServiceDefinition,
      address,
      this.#operator,
      { cluster, role: 'coordinator', name: 'coordinator' },
      'the coordinator',
    );
    this.#close = () => connection.close();
    this.now = { ...this.local, operator: connection.client };
  }

  async killCoordinator(): Promise<void> {
    await this.kill('coordinator');
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(name: string): Promise<void> {
    const pid = this.pid(name);
    process.kill(pid, 'SIGKILL');
    const until = Date.now() + 10_000;
    while (alive(pid) && Date.now() < until) await pause(5);
  }

  pid(name: string): number {
    return this.#pids.get(name) ?? 0;
  }

  /** As after a reboot: a new agent on the same store, at the same address. */
  async startAgent(name: string): Promise<void> {
    const address = this.local.nodes.find((node) => node.name === name)?.address ?? '';
    const config = this.#config(name);
    await this.#run('agent', name, { ...config, listen: address });
  }

  async up(
    options: {
      readonly nodes?: readonly string[];
      readonly parallel?: number;
      readonly onEvent?: (event: DeployEvent) => void;
    } = {},
  ): Promise<DeploymentStatus> {
    const call = this.now.operator.deploy({
      name: NAME,
      modelPath: this.#model,
      nodes: [...(options.nodes ?? [])],
      keep: true,
      context: {
        nCtx: 4096,
        nBatch: 64,
        nSeqMax: options.parallel ?? 2,
        mode: ExactMode.EXACT_MODE_EXACT,
        threads: 1,
        gpu: false,
      },
    });
    let status: DeploymentStatus | undefined;
    for await (const { event } of call) {
      if (event !== undefined) options.onEvent?.(event);
      if (event?.$case === 'ready') status = event.value.deployment;
    }
    if (status === undefined) throw new Error('it ended without being ready');
    return status;
  }

  async status(): Promise<DeploymentStatus | undefined> {
    const { deployments } = await this.now.operator.status({});
    return deployments.find(({ name }) => name === NAME);
  }

  log(): string {
    return [...this.#children.values()].map((child) => child.log).join('');
  }

  /** The rows that importing a model and joining would have made. */
  #rows(): void {
    const home = Home.open(this.home);
    const state = State.open(home, Date.now);
    state.write(({ database }) => {
      database
        .prepare('INSERT INTO models VALUES (?, zeroblob(32), ?, 1, ?, 0)')
        .run(NAME, this.#model, 'llama');
      const columns = database.prepare("SELECT name FROM pragma_table_info('nodes')").all();
      const many = columns.some((column) => column['name'] === 'addresses');
      const add = database.prepare(
        `INSERT INTO nodes (name, ${many ? 'addresses' : 'address'}, key_digest, joined_at_ms)
         VALUES (?, ?, randomblob(32), 0)`,
      );
      for (const { name, address } of this.local.nodes)
        add.run(name, many ? JSON.stringify([address]) : address);
    });
    state.close();
    home.close();
  }

  #config(name: string): object {
    const file = path.join(this.local.folder, name, 'config.json');
    return JSON.parse(readFileSync(file, 'utf8')) as object;
  }

  async #run(program: GuardedProcess, name: string, config: object): Promise<{ address: string }> {
    const file = path.join(this.home, `${name}.json`);
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    const child = new ChildProcess(name, program, path.join(DIST, `${program}.mjs`), [file], GUARD);
    this.#children.set(`${name} ${this.#children.size}`, child);
    const { address, pid } = await child.listening();
    this.#pids.set(name, pid);
    return { address };
  }
}
