/**
 * The coordinator's connection to one agent: who it is, whether it is there, and what it reports. The stream of events
 * doubles as the sign of life; when it breaks, the node counts as gone until it answers again.
 */
import { setTimeout as setTimer } from 'node:timers/promises';
import {
  EXIT,
  MinikeepError,
  PROTOCOL_VERSION,
  CALL_TIMEOUT_MS,
  identityUri,
  versionMismatch,
  type Identity,
} from '@minikeep/protocol';
import {
  connect,
  deadline,
  fromElsewhere,
  probe,
  type Connection,
  type CredentialPems,
  type RevokedSerials,
} from '@minikeep/protocol/rpc';
import {
  AgentServiceDefinition,
  type AgentServiceClient,
  type Heartbeat,
  type LinkState,
  type ModelCheck,
  type NodeSpeed,
  type HelloRequest,
  type HelloResponse,
  type WatchRequest,
  type WatchResponse,
  type ViolationPolicy,
} from '@minikeep/protocol/v1';
import type { Policies } from './seal/policies.ts';

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5_000;
/** An agent that works answers at once. */
const INSTANCE_TIMEOUT_MS = 2_000;
const NEVER_HEARD = 'it has not been heard of yet';
/** Heartbeats come every second. */
const HEARTBEAT_OVERDUE_MS = 10_000;
/** The same where the node has another link that can be tried. */
const LINK_OVERDUE_MS = 4_000;
/** For an answer over another link. */
const LINK_TRY_MS = 3_000;

export type NodeEvent = NonNullable<WatchResponse['event']>;

/** What a coordinator says of itself: a node obeys one at a time. */
export interface Greeting {
  /** Of this process. */
  readonly instance: string;
  /** Who is shut out. */
  revoked(): RevokedSerials;
  /** For the digests of what attempts aimed at. */
  readonly violationKey: Uint8Array;
}

export interface NodeLinkOptions {
  readonly cluster: string;
  /** Of the coordinator's program. */
  readonly version: string;
  readonly greeting?: Greeting;
  readonly name: string;
  /** host:port, the likeliest first; empty while the node has not been heard of. */
  readonly addresses: readonly string[];
  readonly credentials: CredentialPems;
  readonly policies: Policies;
  onEvent(event: NodeEvent): void;
  /** The node is there, and whatever happens on it from now on is heard. */
  onUp?(): void;
  /** The node is not there: it was and is no longer, or another attempt to reach it has failed. */
  onDown(error: MinikeepError): void;
}

/** The coordinator as the nodes see it. */
export interface OwnPlace {
  /** Certificate name (SAN URI). */
  readonly uri: string;
  /** host:port, the best first. */
  addressesFor(node: NodeLink): readonly string[];
}

export class NodeLink {
  readonly name: string;
  readonly identity: Identity;
  readonly #options: NodeLinkOptions;
  #addresses: readonly string[];
  #connection: Connection<typeof AgentServiceDefinition> | undefined;
  /** Which of the addresses is tried, or is in use. */
  #at = 0;
  /** Ends a pause between attempts: there is a reason to try now. */
  #wake = new AbortController();
  readonly #stop = new AbortController();
  #hello: HelloResponse | undefined;
  #modelCheck: ModelCheck | undefined;
  #speed: NodeSpeed | undefined;
  #heartbeat: Heartbeat | undefined;
  #heartbeatMs = -Infinity;
  #measuredLinks: readonly LinkState[] = [];
  #error: MinikeepError | undefined;
  #up = false;
  /** Ends the watching over an address that is no longer the node's. */
  #gone = new AbortController();
  /** Links tried since the node was last heard of. */
  #tries = 0;
  /** The newest event heard, and of which life of the agent: what happens while a link is changed is asked for. */
  #since: WatchRequest = { instance: '', after: 0 };
  /** Resolves when the first attempt to reach the node has ended, either way. */
  readonly tried: Promise<void>;

  constructor(options: NodeLinkOptions) {
    this.#options = options;
    this.name = options.name;
    this.#addresses = options.addresses;
    this.identity = { cluster: options.cluster, role: 'node', name: options.name };
    let attempted: () => void = () => {};
    this.tried = new Promise((resolve) => {
      attempted = resolve;
    });
    void this.#run(attempted);
  }

  /** Where its agent is, or was last looked for; empty while nobody knows. */
  get address(): string {
    return this.#addresses[Math.max(0, this.#at) % Math.max(1, this.#addresses.length)] ?? '';
  }

  /** Bytes a second that go there now. Throws when it does not answer. */
  async measureWay(): Promise<number> {
    const { identity, address } = this;
    const { credentials } = this.#options;
    return (await probe(identityUri(identity), address, credentials, true)).bytesPerSecond ?? 0;
  }

  /** Where its agent may be reached, the address in use first. */
  get ways(): readonly string[] {
    const { address } = this;
    return [address, ...this.#addresses.filter((other) => other !== address)];
  }

  /** The same for another node: loopback is a way only inside its own machine. */
  get waysFromElsewhere(): readonly string[] {
    return fromElsewhere(this.ways);
  }

  /** Throws `node.unreachable` while nobody knows where the node is. */
  get agent(): AgentServiceClient {
    if (this.#connection !== undefined) return this.#connection.client;
    throw this.#error ?? gone(this.name, NEVER_HEARD);
  }

  /** The node said where it is now: a link that is down is tried there at once. */
  moveTo(addresses: readonly string[]): void {
    const same = addresses.join() === this.#addresses.join();
    if (!same) {
      const current = this.address;
      this.#addresses = addresses;
      this.#at = this.#up ? addresses.indexOf(current) : 0;
      // Why wait for the silence of an address that the node no longer has.
      if (this.#at < 0) this.#gone.abort(gone(this.name, `it is no longer at ${current}`));
    }
    if (!this.#up) this.#wake.abort();
  }

  get up(): boolean {
    return this.#up;
  }

  get hello(): HelloResponse | undefined {
    return this.#hello;
  }

  /** Whether its backend computes a split model exactly; undefined: it was never looked at. */
  get modelCheck(): ModelCheck | undefined {
    return this.#modelCheck ?? this.#hello?.modelCheck;
  }

  /** What an engine reached there; undefined: it was never measured. */
  get speed(): NodeSpeed | undefined {
    const speed = this.#speed ?? this.#hello?.speed;
    // A node's word: nothing that a plan could divide by must be zero.
    return speed !== undefined &&
      isSpeed(speed.memoryBytesPerSecond) &&
      isSpeed(speed.operationsPerSecond)
      ? speed
      : undefined;
  }

  /** A newer result than the greeting's. */
  measured(speed: NodeSpeed | undefined): void {
    this.#speed = speed;
  }

  /** A newer result than the greeting's. */
  checked(result: ModelCheck | undefined): void {
    this.#modelCheck = result;
  }

  /** What becomes of its engines when they try to get out. */
  get violationPolicy(): ViolationPolicy {
    return this.#options.policies.violationPolicy;
  }

  get heartbeat(): Heartbeat | undefined {
    return this.#heartbeat;
  }

  /** Its ways to neighbours, as they were when a model was last up on it. */
  get measuredLinks(): readonly LinkState[] {
    return this.#measuredLinks;
  }

  get heartbeatAgeSeconds(): number {
    return this.#heartbeat === undefined ? -1 : (performance.now() - this.#heartbeatMs) / 1000;
  }

  /** Why the node is not there. */
  get error(): MinikeepError | undefined {
    return this.#error;
  }

  /** Resolves with the node's greeting when it is there; throws why it is not. */
  async reachable(): Promise<HelloResponse> {
    await this.tried;
    if (this.#up && this.#hello !== undefined) return this.#hello;
    throw this.#error ?? gone(this.name, 'it has not answered yet');
  }

  /** Asks which process answers where the node was last heard of; undefined: none. */
  async instance(): Promise<string | undefined> {
    try {
      const { instance } = await this.agent.hello(this.#greeting(), {
        signal: deadline(INSTANCE_TIMEOUT_MS),
      });
      return instance;
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.#stop.abort();
    this.#connection?.close();
  }

  async #run(attempted: () => void): Promise<void> {
    const { signal } = this.#stop;
    let retryMs = RETRY_MS_MIN;
    while (!signal.aborted) {
      try {
        this.#connect();
        this.#hello = await this.#greet();
        this.#modelCheck = undefined;
        this.#speed = undefined;
        await this.#watch(() => {
          retryMs = RETRY_MS_MIN;
          this.#tries = 0;
          attempted();
        });
        this.#down(gone(this.name, 'it ended the connection'));
      } catch (thrown) {
        if (this.#stop.signal.aborted) break;
        if (this.#anotherLink(thrown)) continue;
        this.#down(thrown instanceof MinikeepError ? thrown : gone(this.name, String(thrown)));
        this.#at += 1;
      }
      attempted();
      // Every address once before it waits.
      if (this.#at % Math.max(1, this.#addresses.length) !== 0) continue;
      this.#wake = new AbortController();
      await pause(retryMs, AbortSignal.any([signal, this.#wake.signal]));
      retryMs = this.#wake.signal.aborted ? RETRY_MS_MIN : Math.min(RETRY_MS_MAX, retryMs * 2);
    }
    attempted();
  }

  /** A node that was there a moment ago may be reached over another of its links: each is tried once. */
  #anotherLink(thrown: unknown): boolean {
    const restarted = thrown instanceof MinikeepError && thrown.code === 'node.restarted';
    if (!this.#up || restarted || this.#tries >= this.#addresses.length) return false;
    // The only one that it has, and that one is in use.
    if (this.#addresses.length < 2 && this.#at >= 0) return false;
    this.#tries += 1;
    this.#at += 1;
    return true;
  }

  /** Anew for each attempt: the address may be another, and our certificate a newer one. */
  #connect(): void {
    const { address } = this;
    this.#connection?.close();
    this.#connection = undefined;
    if (address === '') throw gone(this.name, NEVER_HEARD);
    this.#connection = connect(
      AgentServiceDefinition,
      address,
      this.#options.credentials,
      this.identity,
      `node ${this.name}`,
    );
  }

  async #greet(): Promise<HelloResponse> {
    const hello = await this.agent.hello(this.#greeting(), {
      signal: deadline(this.#up ? LINK_TRY_MS : CALL_TIMEOUT_MS, this.#stop.signal),
    });
    if (hello.protocolVersion === PROTOCOL_VERSION) return hello;
    throw versionMismatch(
      {
        who: `node ${this.name}`,
        version: hello.minikeepVersion,
        protocol: hello.protocolVersion,
      },
      { who: 'the coordinator', version: this.#options.version, protocol: PROTOCOL_VERSION },
    );
  }

  #greeting(): HelloRequest {
    const { cluster, version, greeting } = this.#options;
    const revoked = greeting?.revoked();
    return {
      protocolVersion: PROTOCOL_VERSION,
      clusterId: cluster,
      minikeepVersion: version,
      instance: greeting?.instance ?? '',
      violationKey: greeting?.violationKey ?? new Uint8Array(),
      revoked:
        revoked === undefined ? undefined : { epoch: revoked.epoch, serials: [...revoked.serials] },
    };
  }

  /** Reads events until the stream ends, throws when heartbeats stay away. */
  async #watch(heard: () => void): Promise<void> {
    const silence = new AbortController();
    this.#gone = silence;
    const limitMs = this.#addresses.length > 1 ? LINK_OVERDUE_MS : HEARTBEAT_OVERDUE_MS;
    const overdue = (): void =>
      silence.abort(gone(this.name, `no sign of life for ${limitMs / 1000} s`));
    let timer = setTimeout(overdue, limitMs);
    try {
      const signal = AbortSignal.any([silence.signal, this.#stop.signal]);
      for await (const { event, number, instance } of this.agent.watch(this.#since, { signal })) {
        if (number > 0) this.#since.after = number;
        if (instance !== '') this.#since.instance = instance;
        if (event?.$case === 'heartbeat') {
          clearTimeout(timer);
          timer = setTimeout(overdue, limitMs);
          this.#heartbeat = event.value;
          if (event.value.links.length > 0) this.#measuredLinks = event.value.links;
          this.#heartbeatMs = performance.now();
          this.#error = undefined;
          heard();
          if (!this.#up) {
            this.#up = true;
            this.#options.onUp?.();
          }
        } else if (event !== undefined) this.#options.onEvent(event);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #down(error: MinikeepError): void {
    this.#up = false;
    this.#tries = 0;
    this.#since = { instance: '', after: 0 };
    this.#error = error;
    this.#options.onDown(error);
  }
}

function gone(node: string, why: string): MinikeepError {
  return new MinikeepError('node.unreachable', `can't reach node ${node}: ${why}`, {
    next: 'Check that its agent runs, and its address.',
    exitCode: EXIT.unreachable,
  });
}

/** Ends early, without an error, when the signal aborts; leaves no listener, for a node may be away for months. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await setTimer(ms, undefined, { signal }).catch(() => {});
}

const isSpeed = (perSecond: number): boolean => Number.isFinite(perSecond) && perSecond >= 1;
