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
  type Identity,
} from '@minikeep/protocol';
import { connect, deadline, type Connection, type CredentialPems } from '@minikeep/protocol/rpc';
import {
  AgentServiceDefinition,
  type AgentServiceClient,
  type Heartbeat,
  type HelloResponse,
  type WatchResponse,
} from '@minikeep/protocol/v1';

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5_000;
/** Heartbeats come every second. */
const HEARTBEAT_OVERDUE_MS = 10_000;

export type NodeEvent = NonNullable<WatchResponse['event']>;

export interface NodeLinkOptions {
  readonly cluster: string;
  readonly name: string;
  readonly address: string;
  readonly credentials: CredentialPems;
  onEvent(event: NodeEvent): void;
  /** The node is there, and whatever happens on it from now on is heard. */
  onUp?(): void;
  /** The node is not there: it was and is no longer, or another attempt to reach it has failed. */
  onDown(error: MinikeepError): void;
}

export class NodeLink {
  readonly name: string;
  readonly address: string;
  readonly identity: Identity;
  readonly #options: NodeLinkOptions;
  readonly #connection: Connection<typeof AgentServiceDefinition>;
  readonly #stop = new AbortController();
  #hello: HelloResponse | undefined;
  #heartbeat: Heartbeat | undefined;
  #heartbeatMs = -Infinity;
  #error: MinikeepError | undefined;
  #up = false;
  /** Resolves when the first attempt to reach the node has ended, either way. */
  readonly tried: Promise<void>;

  constructor(options: NodeLinkOptions) {
    this.#options = options;
    this.name = options.name;
    this.address = options.address;
    this.identity = { cluster: options.cluster, role: 'node', name: options.name };
    this.#connection = connect(
      AgentServiceDefinition,
      options.address,
      options.credentials,
      this.identity,
      `node ${options.name}`,
    );
    let attempted: () => void = () => {};
    this.tried = new Promise((resolve) => {
      attempted = resolve;
    });
    void this.#run(attempted);
  }

  get agent(): AgentServiceClient {
    return this.#connection.client;
  }

  get up(): boolean {
    return this.#up;
  }

  get hello(): HelloResponse | undefined {
    return this.#hello;
  }

  get heartbeat(): Heartbeat | undefined {
    return this.#heartbeat;
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

  close(): void {
    this.#stop.abort();
    this.#connection.close();
  }

  async #run(attempted: () => void): Promise<void> {
    const { signal } = this.#stop;
    let retryMs = RETRY_MS_MIN;
    while (!signal.aborted) {
      try {
        this.#hello = await this.#greet();
        await this.#watch(() => {
          retryMs = RETRY_MS_MIN;
          attempted();
        });
        this.#down(gone(this.name, 'it ended the connection'));
      } catch (thrown) {
        if (this.#stop.signal.aborted) break;
        this.#down(thrown instanceof MinikeepError ? thrown : gone(this.name, String(thrown)));
      }
      attempted();
      await pause(retryMs, signal);
      retryMs = Math.min(RETRY_MS_MAX, retryMs * 2);
    }
    attempted();
  }

  async #greet(): Promise<HelloResponse> {
    const hello = await this.agent.hello(
      { protocolVersion: PROTOCOL_VERSION, clusterId: this.#options.cluster },
      { signal: deadline(CALL_TIMEOUT_MS, this.#stop.signal) },
    );
    if (hello.protocolVersion === PROTOCOL_VERSION) return hello;
    throw new MinikeepError(
      'version.mismatch',
      `node ${this.name} speaks protocol ${hello.protocolVersion}, the coordinator speaks ${PROTOCOL_VERSION}`,
      { next: 'Install the same version of minikeep on every node.' },
    );
  }

  /** Reads events until the stream ends, throws when heartbeats stay away. */
  async #watch(heard: () => void): Promise<void> {
    const silence = new AbortController();
    const overdue = (): void =>
      silence.abort(gone(this.name, `no sign of life for ${HEARTBEAT_OVERDUE_MS / 1000} s`));
    let timer = setTimeout(overdue, HEARTBEAT_OVERDUE_MS);
    try {
      const signal = AbortSignal.any([silence.signal, this.#stop.signal]);
      for await (const { event } of this.agent.watch({}, { signal })) {
        if (event?.$case === 'heartbeat') {
          clearTimeout(timer);
          timer = setTimeout(overdue, HEARTBEAT_OVERDUE_MS);
          this.#heartbeat = event.value;
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
