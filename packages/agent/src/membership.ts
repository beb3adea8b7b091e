/**
 * A node keeps in touch: says where it is at each start, whenever its addresses change, and every half minute; learns
 * who was removed and where the coordinator is; has its certificate renewed. Nothing that runs depends on it: while the
 * coordinator is away, it goes on trying.
 */
import { setTimeout as setTimer } from 'node:timers/promises';
import {
  CALL_TIMEOUT_MS,
  EXIT,
  MinikeepError,
  PROTOCOL_VERSION,
  clockSkew,
  toMinikeepError,
  type Identity,
  type Logger,
} from '@minikeep/protocol';
import { parseConfig } from '@minikeep/protocol/config';
import { certificateRequest } from '@minikeep/protocol/authority';
import { discoveryId, find } from '@minikeep/discovery';
import {
  connect,
  deadline,
  formatAddress,
  keyPin,
  type Connection,
  type CredentialPems,
  type RevokedSerials,
} from '@minikeep/protocol/rpc';
import { MembershipServiceDefinition, type AnnounceResponse } from '@minikeep/protocol/v1';
import {
  FILES,
  RUNNING,
  readKeyFile,
  readSettings,
  writeKeyFile,
  writeSettings,
  type NodeSettings,
} from '@minikeep/state';

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 5_000;
/** How soon a change of this machine's addresses is seen. */
const LOOK_MS = 2_000;
/** How often a coordinator that is nowhere where it was is looked for. */
const LOOK_AROUND_MS = 20_000;
const LEAVE_TIMEOUT_MS = 1_000;
const ADDRESSES_MAX = 32;

export interface MembershipOptions {
  readonly home: string;
  readonly settings: NodeSettings;
  readonly credentials: { -readonly [K in keyof CredentialPems]: CredentialPems[K] };
  readonly version: string;
  /** Tells this process from every other of the same home. */
  readonly instance: string;
  /** Where the agent listens. */
  readonly port: number;
  readonly log: Logger;
  readonly hosts: () => string[];
  /** A coordinator that moved may be looked for on the local network. */
  readonly discovery: boolean;
  /** Of the newest list of revoked certificates that is known here. */
  readonly revocationEpoch: () => number;
  /** The certificate in `credentials` is a new one. */
  readonly onRenewed: () => void;
  readonly onRevoked: (list: RevokedSerials) => void;
  /** A person has to hear of it; it is tried again all the same. */
  readonly onTold: (error: MinikeepError) => void;
  /** The cluster does not want this machine: trying again would change nothing. */
  readonly onShutOut: (error: MinikeepError) => void;
}

const SHUT_OUT: ReadonlySet<string> = new Set(['node.cloned', 'node.removed', 'access.removed']);
/** What a person has to mend, on this machine or on the coordinator's; once mended, this node goes on by itself. */
const TOLD: ReadonlySet<string> = new Set([
  'version.mismatch',
  'coordinator.outdated',
  'clock.skew',
]);

type Client = Connection<typeof MembershipServiceDefinition>['client'];

export class Membership {
  readonly #options: MembershipOptions;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #addresses: readonly string[];
  #lookedAroundMs = -Infinity;
  /** Why the coordinator is not reached, as last logged: each reason once. */
  #told = '';
  #clockTold = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#addresses = options.settings.coordinator_addresses;
    this.#running = this.#run();
  }

  /** Tells the coordinator that this agent ends, if it listens, and stops. */
  async leave(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#withCoordinator(
      (client, signal) => client.announce(this.#announcement(true), { signal }),
      LEAVE_TIMEOUT_MS,
    ).catch(() => {});
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let retryMs = RETRY_MS_MIN;
    while (!signal.aborted) {
      try {
        const answer = await this.#withCoordinator(
          (client, s) => client.announce(this.#announcement(false), { signal: s }),
          CALL_TIMEOUT_MS,
        );
        retryMs = RETRY_MS_MIN;
        this.#told = '';
        await this.#learn(answer);
        await this.#untilDue(answer.announceSeconds * 1000);
      } catch (thrown) {
        if (signal.aborted) return;
        if (thrown instanceof MinikeepError && SHUT_OUT.has(thrown.code)) {
          this.#options.onShutOut(thrown);
          return;
        }
        this.#tell(thrown);
        if (await this.#lookAround()) continue;
        await pause(retryMs, signal);
        retryMs = Math.min(RETRY_MS_MAX, retryMs * 2);
      }
    }
  }

  /**
   * Everything has a new address after a move to another network: the coordinator is found by what it announces, and
   * still has to show its certificate. True: there are places that were not tried yet.
   */
  async #lookAround(): Promise<boolean> {
    const { discovery, settings, credentials } = this.#options;
    const now = performance.now();
    if (!discovery || settings.serves !== undefined) return false;
    if (now - this.#lookedAroundMs < LOOK_AROUND_MS) return false;
    this.#lookedAroundMs = now;
    const known = this.#addresses;
    const id = discoveryId(keyPin(credentials.authority));
    for await (const { hosts, port } of find(id, this.#stop.signal)) {
      const fresh = hosts.map((host) => formatAddress(host, port));
      this.#addresses = [...new Set([...fresh, ...this.#addresses])].slice(0, ADDRESSES_MAX);
    }
    return this.#addresses.length > known.length;
  }

  async #learn(answer: AnnounceResponse): Promise<void> {
    const { revoked, coordinatorAddresses, renew } = answer;
    this.#compareClocks(answer.nowSeconds);
    if (revoked !== undefined) this.#options.onRevoked(revoked);
    this.#remember(coordinatorAddresses);
    if (renew) await this.#renew();
  }

  /** Told once while it lasts. */
  #compareClocks(coordinatorSeconds: number): void {
    const skew = clockSkew({
      whose: `node ${this.#options.settings.node}'s clock`,
      platform: process.platform,
      aheadSeconds: Date.now() / 1000 - coordinatorSeconds,
      coordinatorMs: coordinatorSeconds * 1000,
    });
    if (skew !== undefined && !this.#clockTold) this.#options.onTold(skew);
    this.#clockTold = skew !== undefined;
  }

  async #renew(): Promise<void> {
    const { credentials, home, onRenewed, log } = this.#options;
    const certificateRequestPem = await certificateRequest(credentials.privateKey);
    const { certificatePem } = await this.#withCoordinator(
      (client, signal) => client.renew({ certificateRequestPem }, { signal }),
      CALL_TIMEOUT_MS,
    );
    writeKeyFile(home, FILES.certificate, certificatePem);
    credentials.certificate = certificatePem;
    onRenewed();
    log('info', 'the certificate was renewed', {});
  }

  /** Returns early when this machine's addresses are others than those that were announced. */
  async #untilDue(ms: number): Promise<void> {
    const announced = this.#options.hosts().join();
    const due = performance.now() + ms;
    while (!this.#stop.signal.aborted && performance.now() < due) {
      await pause(Math.min(LOOK_MS, Math.max(1, due - performance.now())), this.#stop.signal);
      if (this.#options.hosts().join() !== announced) return;
    }
  }

  /** The first address at which the coordinator answers; that one is tried first from then on. */
  async #withCoordinator<T>(
    call: (client: Client, signal: AbortSignal) => Promise<T>,
    timeoutMs: number,
  ): Promise<T> {
    const { settings, credentials } = this.#options;
    const identity: Identity = {
      cluster: settings.cluster_id,
      role: 'coordinator',
      name: settings.coordinator,
    };
    let first: Error | undefined;
    for (const address of this.#places()) {
      const connection = connect(
        MembershipServiceDefinition,
        address,
        credentials,
        identity,
        'the coordinator',
      );
      try {
        const leaving = this.#stop.signal.aborted ? undefined : this.#stop.signal;
        const result = await call(connection.client, deadline(timeoutMs, leaving));
        this.#addresses = [address, ...this.#addresses.filter((other) => other !== address)];
        return result;
      } catch (thrown) {
        first ??= toMinikeepError(thrown);
      } finally {
        connection.close();
      }
    }
    throw first ?? notThere();
  }

  /** A coordinator of this very home says where it listens; any other was last heard of somewhere. */
  #places(): readonly string[] {
    const { home, settings } = this.#options;
    if (settings.serves === undefined) return this.#addresses;
    const text = readKeyFile(home, FILES.running);
    return text === undefined ? [] : [parseConfig(RUNNING, text, FILES.running, 'agent').address];
  }

  #announcement(leaving: boolean) {
    const { version, instance, port, hosts, revocationEpoch } = this.#options;
    return {
      protocolVersion: PROTOCOL_VERSION,
      minikeepVersion: version,
      hosts: hosts(),
      port,
      instance,
      nowSeconds: Date.now() / 1000,
      leaving,
      revocationEpoch: revocationEpoch(),
    };
  }

  /** The coordinator may move while this node is off: its addresses are kept. */
  #remember(addresses: readonly string[]): void {
    const { home } = this.#options;
    if (addresses.length === 0) return;
    const settings = readSettings(home);
    if (settings === undefined) return;
    const known = [...addresses].toSorted().join();
    if (settings.coordinator_addresses.toSorted().join() === known) return;
    writeSettings(home, { ...settings, coordinator_addresses: [...addresses] });
    this.#addresses = addresses;
  }

  #tell(thrown: unknown): void {
    const message = thrown instanceof MinikeepError ? thrown.message : String(thrown);
    if (message === this.#told) return;
    this.#told = message;
    const code = thrown instanceof MinikeepError ? thrown.code : '';
    if (thrown instanceof MinikeepError && TOLD.has(code)) this.#options.onTold(thrown);
    this.#options.log('warn', 'the coordinator could not be told', { code, error: message });
  }
}

const notThere = (): MinikeepError =>
  new MinikeepError('node.unreachable', 'the coordinator does not run yet', {
    next: 'Start it: minikeep start, on the first node.',
    exitCode: EXIT.unreachable,
  });

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await setTimer(ms, undefined, { signal }).catch(() => {});
}
