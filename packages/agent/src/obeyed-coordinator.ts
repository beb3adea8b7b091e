/**
 * A node obeys one coordinator at a time. A cluster may have two for a while: a backup was restored on a new machine and
 * the old one comes back, or a home was copied. Whoever greets with a newer list of revoked certificates takes over (a
 * restore makes it newer than any before); one with an older list is a copy from the past; of two that know the same the
 * first stays, as long as it watches.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { peerSerialOf } from '@minikeep/protocol/rpc';
import {
  AgentServiceDefinition,
  type AgentServiceImplementation,
  type HelloRequest,
} from '@minikeep/protocol/v1';

/** For the connection of a coordinator that ended a moment ago to be seen as ended. */
const SUCCESSOR_WAIT_MS = 3_000;

/** What of a call counts here. */
export interface Call {
  readonly serial: string;
  /** Where it comes from. */
  readonly host: string;
}

interface Coordinator {
  readonly instance: string;
  readonly epoch: number;
  readonly host: string;
  /** Of the certificates that it showed. */
  readonly serials: Set<string>;
  /** Ends its calls when another one takes over. */
  readonly over: AbortController;
  /** Streams of events to it: while there is one, it is there. */
  watches: number;
}

export class ObeyedCoordinator {
  readonly #node: string;
  readonly #knownEpoch: () => number;
  readonly #waitMs: number;
  #now: Coordinator | undefined;
  #changed = Promise.withResolvers<void>();

  /** `knownEpoch`: of the newest list of revoked certificates that this node knows. */
  constructor(node: string, knownEpoch: () => number, waitMs = SUCCESSOR_WAIT_MS) {
    this.#node = node;
    this.#knownEpoch = knownEpoch;
    this.#waitMs = waitMs;
  }

  /** Throws `coordinator.outdated`, `coordinator.twice`. One without an instance is a throw-away cluster's only one. */
  async greet(
    { instance, revoked }: Pick<HelloRequest, 'instance' | 'revoked'>,
    call: Call,
  ): Promise<void> {
    if (instance === '') return;
    const epoch = revoked?.epoch ?? 0;
    if (epoch < this.#knownEpoch()) throw this.#outdated();
    const before = this.#now;
    if (before?.instance === instance) {
      before.serials.add(call.serial);
      return;
    }
    if (before !== undefined && epoch <= this.#knownEpoch() && !(await this.#leaves(before)))
      throw this.#twice(before);
    // Another one may have come meanwhile.
    if (this.#now !== before) return this.greet({ instance, revoked }, call);
    this.#now = {
      instance,
      epoch,
      host: call.host,
      serials: new Set([call.serial]),
      over: new AbortController(),
      watches: 0,
    };
    before?.over.abort();
  }

  /** A call begins: `signal` ends it when another coordinator takes over. Throws `coordinator.outdated`. */
  begin(serial: string, watches: boolean): Hold {
    const now = this.#now;
    if (now === undefined) return { signal: undefined, fault: () => undefined, end: () => {} };
    if (!now.serials.has(serial)) throw this.#outdated();
    if (watches) now.watches += 1;
    return {
      signal: now.over.signal,
      fault: () => (now.over.signal.aborted ? this.#outdated() : undefined),
      end: () => {
        if (!watches) return;
        now.watches -= 1;
        this.#changed.resolve();
        this.#changed = Promise.withResolvers();
      },
    };
  }

  /** Whether it is gone, or goes within the time. */
  async #leaves(coordinator: Coordinator): Promise<boolean> {
    const late = Promise.withResolvers<'late'>();
    const timer = setTimeout(() => late.resolve('late'), this.#waitMs);
    try {
      while (coordinator.watches > 0)
        if ((await Promise.race([this.#changed.promise, late.promise])) === 'late') return false;
      return true;
    } finally {
      clearTimeout(timer);
    }
  }

  #outdated(): MinikeepError {
    const elsewhere = this.#now === undefined ? '' : `, at ${this.#now.host}`;
    return new MinikeepError(
      'coordinator.outdated',
      `node ${this.#node} obeys a newer coordinator of this cluster${elsewhere}: this one's home is a copy from before a restore`,
      {
        next: 'End this one for good (minikeep stop) and empty its home; its machine joins the other one as a node: minikeep invite there, minikeep join here. To move the cluster back here instead: minikeep backup there, minikeep init --restore here.',
        exitCode: EXIT.denied,
      },
    );
  }

  #twice({ host }: Coordinator): MinikeepError {
    return new MinikeepError(
      'coordinator.twice',
      `node ${this.#node} obeys another coordinator of this cluster, at ${host}: two run from copies of one home`,
      {
        next: 'End the one that is not meant (minikeep stop on its machine) and empty its home; to move a cluster, take minikeep backup and minikeep init --restore.',
        exitCode: EXIT.denied,
      },
    );
  }
}

export interface Hold {
  readonly signal: AbortSignal | undefined;
  /** Why the call is over before its time. */
  fault(): MinikeepError | undefined;
  end(): void;
}

/** Methods that answer with a stream. */
const streams: ReadonlySet<string> = new Set(
  Object.entries(AgentServiceDefinition.methods).flatMap(([name, { responseStream }]) =>
    responseStream ? [name] : [],
  ),
);

type Handler = (request: never, context: CallLike) => unknown;
interface CallLike {
  readonly signal: AbortSignal;
  readonly peer: string;
}

/** The service, for the coordinator that is obeyed: any other one's calls are refused, but for its greeting. */
export function obeying(
  service: AgentServiceImplementation,
  obeyed: ObeyedCoordinator,
): AgentServiceImplementation {
  const guarded = Object.entries(service as unknown as Record<string, Handler>).map(
    ([name, handler]): [string, Handler] => [
      name,
      name === 'hello' || name === 'revoke' ? handler : guard(name, handler, obeyed),
    ],
  );
  return Object.fromEntries(guarded) as unknown as AgentServiceImplementation;
}

function guard(name: string, handler: Handler, obeyed: ObeyedCoordinator): Handler {
  const begin = (context: CallLike): [Hold, CallLike] => {
    const hold = obeyed.begin(peerSerialOf(context as never), name === 'watch');
    if (hold.signal === undefined) return [hold, context];
    return [hold, { ...context, signal: AbortSignal.any([context.signal, hold.signal]) }];
  };
  return streams.has(name)
    ? async function* stream(request, context) {
        const [hold, held] = begin(context);
        try {
          yield* handler(request, held) as AsyncIterable<unknown>;
        } catch (thrown) {
          throw hold.fault() ?? thrown;
        } finally {
          hold.end();
        }
        const fault = hold.fault();
        if (fault !== undefined) throw fault;
      }
    : async (request, context) => {
        const [hold, held] = begin(context);
        try {
          return await handler(request, held);
        } catch (thrown) {
          throw hold.fault() ?? thrown;
        } finally {
          hold.end();
        }
      };
}
