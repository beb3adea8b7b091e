/**
 * A throw-away cluster on this machine: an authority, a coordinator and agents, each a process of its own with its own
 * certificate, talking mTLS over 127.0.0.1. Everything it makes lies in one temporary folder, except the slice cache.
 *
 * The children end when their standard input does, so that they go whatever ends this process; they are in process
 * groups of their own, so that Ctrl-C reaches only us and ends them in order.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import type { AgentConfig } from '@minikeep/agent';
import type { GuardedProcess } from '@minikeep/containment';
import type { CoordinatorConfig } from '@minikeep/coordinator';
import type { Identity } from '@minikeep/protocol';
import { CertificateAuthority } from '@minikeep/protocol/authority';
import { connect, type CredentialFiles, type CredentialPems } from '@minikeep/protocol/rpc';
import { OperatorServiceDefinition, type OperatorServiceClient } from '@minikeep/protocol/v1';
import { ChildProcess } from './child-process.ts';
import { temporaryFolder } from './temporary-folder.ts';

/** Slices that nobody uses are kept up to this, for the next run. */
const STORE_BYTES_MAX = 32 * 2 ** 30;
const LOOPBACK_ANY_PORT = '127.0.0.1:0';
const COORDINATOR = 'coordinator';

export interface LocalClusterOptions {
  /** Number of nodes. */
  readonly nodes: number;
  /** The folder with the programs (dist/). */
  readonly distFolder: string;
  /** Engines run unprotected; the cluster counts as unsealed. */
  readonly unsafeNoSandbox?: boolean;
  /** Slices and digests are kept here; default `$XDG_CACHE_HOME/minikeep`. */
  readonly cacheFolder?: string;
  /** Bound of the slice cache. */
  readonly storeBytesMax?: number;
  readonly signal?: AbortSignal;
  /** Called before the first process starts, with what ends everything at once (as `abandon`). */
  readonly onStarting?: (abandon: () => void) => void;
}

export interface LocalNode {
  readonly name: string;
  readonly address: string;
  readonly pid: number;
}

export interface LocalCluster {
  readonly operator: OperatorServiceClient;
  readonly nodes: readonly LocalNode[];
  readonly coordinator: LocalNode;
  /** Holds certificates and configurations; for tests, which play other roles. */
  readonly folder: string;
  readonly authority: CertificateAuthority;
  /** The last lines that the processes logged. */
  log(): string;
  /** Ends every process in order and removes the folder. Never throws; later calls wait for the first. */
  stop(): Promise<void>;
  /** Kills every process and removes the folder, at once and without waiting. */
  abandon(): void;
}

/** Where slices of throw-away clusters are kept. */
export function defaultCacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  const xdg = env['XDG_CACHE_HOME'];
  const base = xdg !== undefined && path.isAbsolute(xdg) ? xdg : path.join(homedir(), '.cache');
  return path.join(base, 'minikeep');
}

/** Starts a cluster; an aborted signal or a failure leaves nothing. Throws `local.*`, `listen.*`, `store.*`. */
export async function startLocalCluster(options: LocalClusterOptions): Promise<LocalCluster> {
  const folder = temporaryFolder('minikeep-');
  const builder = new Builder(options, folder);
  options.onStarting?.(() => builder.abandon());
  try {
    return await builder.build();
  } catch (error) {
    await builder.stop();
    throw error;
  }
}

class Builder {
  readonly #options: LocalClusterOptions;
  readonly #folder: string;
  readonly #children: ChildProcess[] = [];
  #closeOperator: () => void = () => {};
  #stopped: Promise<void> | undefined;

  constructor(options: LocalClusterOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
  }

  async build(): Promise<LocalCluster> {
    const { nodes: count, signal } = this.#options;
    const cluster = `local-${randomBytes(6).toString('hex')}`;
    const authority = await CertificateAuthority.throwAway(cluster, Date.now());
    signal?.throwIfAborted();
    const names = Array.from({ length: count }, (_, i) => `node-${i + 1}`);
    // All have started or failed before anything else happens: what is ended then, is all there is.
    const starts = await Promise.allSettled(names.map((name) => this.#startAgent(authority, name)));
    const nodes = starts.map((start): LocalNode => {
      if (start.status === 'rejected') throw start.reason;
      return start.value;
    });
    const coordinator = await this.#startCoordinator(authority, nodes);
    const identity: Identity = { cluster, role: 'coordinator', name: COORDINATOR };
    const pems = await issue(authority, 'operator', 'local');
    const connection = connect(
      OperatorServiceDefinition,
      coordinator.address,
      pems,
      identity,
      'the coordinator',
    );
    this.#closeOperator = () => connection.close();
    signal?.throwIfAborted();
    return {
      operator: connection.client,
      nodes,
      coordinator,
      folder: this.#folder,
      authority,
      log: () => this.#children.map((child) => child.log).join(''),
      stop: () => this.stop(),
      abandon: () => this.abandon(),
    };
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#end();
    return this.#stopped;
  }

  async #end(): Promise<void> {
    this.#closeOperator();
    // The coordinator first: it takes its deployments down while the agents still answer.
    const [agents, coordinators] = [
      this.#children.filter((child) => child.name !== COORDINATOR),
      this.#children.filter((child) => child.name === COORDINATOR),
    ];
    await Promise.all(coordinators.map((child) => child.stop()));
    await Promise.all(agents.map((child) => child.stop()));
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 3 });
  }

  abandon(): void {
    for (const child of this.#children) child.kill();
    try {
      // Killed children may still write while they die: again, for a second in all.
      rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
    } catch {
      // There is no time to do more; the folder holds keys of a cluster that no longer exists.
    }
  }

  async #startAgent(authority: CertificateAuthority, name: string): Promise<LocalNode> {
    const { distFolder, unsafeNoSandbox, storeBytesMax } = this.#options;
    const config: AgentConfig = {
      cluster: authority.cluster,
      node: name,
      listen: LOOPBACK_ANY_PORT,
      credentials: await this.#credentialFiles(authority, 'node', name),
      store: {
        folder: path.join(this.#cacheFolder(), 'store'),
        bytes_max: storeBytesMax ?? STORE_BYTES_MAX,
      },
      program_folder: distFolder,
      unsafe_no_sandbox: unsafeNoSandbox === true,
      end_with_stdin: true,
      temporary_folder: path.join(this.#folder, name),
    };
    return this.#start('agent', name, config);
  }

  async #startCoordinator(
    authority: CertificateAuthority,
    nodes: readonly LocalNode[],
  ): Promise<LocalNode> {
    const config: CoordinatorConfig = {
      cluster: authority.cluster,
      name: COORDINATOR,
      listen: LOOPBACK_ANY_PORT,
      credentials: await this.#credentialFiles(authority, 'coordinator', COORDINATOR),
      nodes: nodes.map(({ name, address }) => ({ name, address })),
      cache_folder: this.#cacheFolder(),
      end_with_stdin: true,
      temporary_folder: path.join(this.#folder, COORDINATOR),
    };
    return this.#start('coordinator', COORDINATOR, config);
  }

  async #start(program: GuardedProcess, name: string, config: object): Promise<LocalNode> {
    const file = path.join(this.#folder, name, 'config.json');
    await writeFile(file, JSON.stringify(config), { mode: 0o600 });
    this.#options.signal?.throwIfAborted();
    // Without a sandbox engines are the agent's own children: no list could tell who of them asks.
    const open = program === 'agent' && this.#options.unsafeNoSandbox === true;
    const child = new ChildProcess(
      name,
      program,
      path.join(this.#options.distFolder, `${program}.mjs`),
      [file],
      open ? undefined : { listen: [LOOPBACK_ANY_PORT], networks: [], discovery: false },
    );
    this.#children.push(child);
    const { address, pid } = await child.listening(this.#options.signal);
    return { name, address, pid };
  }

  async #credentialFiles(
    authority: CertificateAuthority,
    role: Identity['role'],
    name: string,
  ): Promise<CredentialFiles> {
    const folder = path.join(this.#folder, name);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const pems = await issue(authority, role, name);
    const files = {
      authority: path.join(folder, 'authority.pem'),
      certificate: path.join(folder, 'certificate.pem'),
      privateKey: path.join(folder, 'key.pem'),
    };
    for (const key of ['authority', 'certificate', 'privateKey'] as const)
      await writeFile(files[key], pems[key], { mode: 0o600 });
    return files;
  }

  #cacheFolder(): string {
    return this.#options.cacheFolder ?? defaultCacheFolder();
  }
}

async function issue(
  authority: CertificateAuthority,
  role: Identity['role'],
  name: string,
): Promise<CredentialPems> {
  const issued = await authority.issue(role, name);
  return {
    authority: authority.certificatePem,
    certificate: issued.certificatePem,
    privateKey: issued.privateKeyPem,
  };
}
