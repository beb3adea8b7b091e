/** The one point where errors cross a process boundary: MinikeepError ↔ gRPC status with a trailer. */
import {
  ClientError,
  ServerError,
  Status,
  type CallOptions,
  type ClientMiddleware,
  type ServerMiddleware,
} from 'nice-grpc-common';
import {
  EXIT,
  MinikeepError,
  toMinikeepError,
  type ExitCode,
  type MinikeepErrorOptions,
} from './errors.ts';
import { SET_CLOCK, utc } from './clock.ts';
import { ErrorDetail } from './generated/v1.ts';

const TRAILER = 'minikeep-error-bin';
/** Text of a remote error is cut here: it may have come from far, but not without limit. */
const TEXT_LENGTH_MAX = 4_000;
const DETAILS_MAX = 32;
/** Of all details together. All of an error must go into the header block of a trailer, which HTTP/2 limits to 64 KiB. */
const DETAILS_LENGTH_MAX = 4_000;
/** For whoever reads the status alone; the error itself is beside it. */
const STATUS_LENGTH_MAX = 200;

export function toErrorDetail(error: MinikeepError): ErrorDetail {
  const details: Record<string, string> = {};
  let room = DETAILS_LENGTH_MAX;
  for (const [key, value] of Object.entries(error.details).slice(0, DETAILS_MAX)) {
    const text = String(value);
    // A fact cut in two is none.
    if (key.length + text.length > room) continue;
    room -= key.length + text.length;
    details[key] = text;
  }
  return {
    code: error.code,
    message: error.message.slice(0, TEXT_LENGTH_MAX),
    next: error.next.slice(0, TEXT_LENGTH_MAX),
    exitCode: error.exitCode,
    details,
  };
}

export function fromErrorDetail(detail: ErrorDetail): MinikeepError {
  const exits: readonly number[] = Object.values(EXIT);
  return new MinikeepError(
    /^[a-z0-9_]+\.[a-z0-9_]+$/.test(detail.code) ? detail.code : 'internal.unexpected',
    detail.message.slice(0, TEXT_LENGTH_MAX),
    {
      next: detail.next.slice(0, TEXT_LENGTH_MAX),
      exitCode: exits.includes(detail.exitCode) ? (detail.exitCode as ExitCode) : EXIT.failed,
      details: Object.fromEntries(Object.entries(detail.details).slice(0, DETAILS_MAX)),
    },
  );
}

/** Key and value of the trailing metadata that carries an error. */
export function errorTrailer(error: MinikeepError): [string, Uint8Array] {
  return [TRAILER, ErrorDetail.encode(toErrorDetail(error)).finish()];
}

/** Server side: whatever a handler throws reaches the caller as code, message and next step. */
export const errorServerMiddleware: ServerMiddleware = async function* (call, context) {
  try {
    return yield* call.next(call.request, context);
  } catch (thrown) {
    if (thrown instanceof ServerError || context.signal.aborted) throw thrown;
    const error = toMinikeepError(thrown);
    const [key, value] = errorTrailer(error);
    context.trailer.set(key, value);
    throw new ServerError(statusOf(error), error.message.slice(0, STATUS_LENGTH_MAX));
  }
};

function statusOf(error: MinikeepError): Status {
  if (error.exitCode === EXIT.denied) return Status.PERMISSION_DENIED;
  if (error.exitCode === EXIT.unreachable) return Status.UNAVAILABLE;
  if (error.exitCode === EXIT.usage) return Status.INVALID_ARGUMENT;
  return error.code === 'internal.unexpected' ? Status.INTERNAL : Status.FAILED_PRECONDITION;
}

/**
 * Client side: the error that the server meant, or one that says what happened to the connection.
 * `who` names the peer in messages ("node a", "the coordinator"); `onFault` makes of a fault of the connection what the
 * caller's user has to hear.
 */
export function errorClientMiddleware(
  who: string,
  onFault: (fault: ConnectionFault) => MinikeepError = (fault) => fault,
): ClientMiddleware {
  return async function* (call, options) {
    let detail: ErrorDetail | undefined;
    const withTrailer: CallOptions = {
      ...options,
      onTrailer(trailer) {
        detail = detailOf(trailer.get(TRAILER)) ?? detail;
        options.onTrailer?.(trailer);
      },
    };
    try {
      return yield* call.next(call.request, withTrailer);
    } catch (thrown) {
      if (detail !== undefined) throw fromErrorDetail(detail);
      const error = connectionError(thrown, who, options.signal);
      throw error instanceof ConnectionFault ? onFault(error) : error;
    }
  };
}

function detailOf(bytes: Uint8Array | string | undefined): ErrorDetail | undefined {
  if (bytes === undefined || typeof bytes === 'string') return undefined;
  try {
    return ErrorDetail.decode(bytes);
  } catch {
    // A peer that sends rubbish here is still reported, by its status.
    return undefined;
  }
}

/**
 * A fault of the connection to whoever was called. Never what that one reports about others, whatever its code: the
 * kind of error does not cross a connection.
 */
export class ConnectionFault extends MinikeepError {
  /** There was a connection, and the call may have been heard. */
  readonly reached: boolean;

  constructor(code: string, message: string, reached: boolean, options: MinikeepErrorOptions) {
    super(code, message, { ...options, exitCode: EXIT.unreachable });
    this.reached = reached;
  }
}

/** How the library begins when it never got through. */
const NOT_REACHED = /^(?:No connection established|Name resolution failed)/;
/** Its connection broke in the middle of a call: a handler that fails says so in a trailer. */
const STREAM_LOST = /^Received RST_STREAM with code [02]\b/;
/** What TLS says of a certificate whose time, by this machine's clock, is not now. */
const NOT_NOW = /certificate (?:is (?<early>not yet valid)|has expired)/;
/** The library's words around a cause. */
const AROUND = /^No connection established\. Last error: (?:Error: )?|\.? Resolution note: *$/g;

/** A guard's answer, or a firewall's. */
const NOT_LISTED = /\bconnect EPERM (?<address>[\d.a-f:]+)/;

/** A network namespace of its own begins without a way to itself. */
const LOOPBACK_DOWN =
  /\b(?:ENETUNREACH|EADDRNOTAVAIL|ENETDOWN|EHOSTUNREACH) (?:127\.\d+\.\d+\.\d+|::1)/;

/** What a failed call without an error of ours means. */
export function connectionError(thrown: unknown, who: string, signal?: AbortSignal): unknown {
  if (signal?.aborted === true) {
    const reason: unknown = signal.reason;
    if (reason instanceof MinikeepError) return reason;
    if (reason instanceof DOMException && reason.name === 'TimeoutError')
      return new MinikeepError('call.timeout', `${who} did not answer in time`, {
        next: 'Look at that process: is it stopped, swapping or overloaded? `minikeep status` shows the nodes.',
        exitCode: EXIT.unreachable,
      });
    return new MinikeepError('call.cancelled', `the call to ${who} was cancelled`, {
      next: 'Nothing: it was asked for.',
      exitCode: EXIT.interrupted,
    });
  }
  if (!(thrown instanceof ClientError)) return thrown;
  const { code, details } = thrown;
  if (LOOPBACK_DOWN.test(details))
    return new MinikeepError(
      'network.loopback_down',
      `can't reach ${who}: this machine can't reach its own address (${LOOPBACK_DOWN.exec(details)?.[0] ?? ''})`,
      {
        next: 'Its loopback interface is down: bring it up (Linux, as root: `ip link set lo up`), then try again.',
        exitCode: EXIT.unreachable,
      },
    );
  const notListed = NOT_LISTED.exec(details)?.groups?.['address'];
  if (notListed !== undefined)
    return new ConnectionFault(
      'connect.not_listed',
      `can't reach ${who}: this machine refuses connections to ${notListed}, which is on none of its networks and on none that was named`,
      false,
      {
        next: 'Are there machines of the cluster behind a router, name their network where minikeep is started: minikeep start --network 10.2.0.0/16',
      },
    );
  const notNow = NOT_NOW.exec(details);
  if (notNow !== null) return certificateNotNow(who, notNow.groups?.['early'] !== undefined);
  if (code === Status.UNAVAILABLE || code === Status.DEADLINE_EXCEEDED)
    return new ConnectionFault(
      'node.unreachable',
      `can't reach ${who}: ${details.replaceAll(AROUND, '')}`,
      !NOT_REACHED.test(details),
      {
        next: 'Check that the process runs, that its address and certificates belong to this cluster, and that its clock is right.',
      },
    );
  if (code === Status.PERMISSION_DENIED || code === Status.UNAUTHENTICATED)
    return new MinikeepError('access.denied', `${who} refused: ${details}`, {
      next: 'Use a certificate of this cluster with the right role.',
      exitCode: EXIT.denied,
    });
  if (code === Status.CANCELLED || STREAM_LOST.test(details))
    return new ConnectionFault('node.connection_lost', `${who} ended the connection`, true, {
      next: 'Look at that process: it has probably been stopped.',
    });
  return new MinikeepError('call.failed', `${who} failed: ${details} (gRPC status ${code})`, {
    next: 'Look at that process: it may have crashed or run another version.',
    exitCode: EXIT.failed,
  });
}

function certificateNotNow(who: string, early: boolean): MinikeepError {
  return new ConnectionFault(
    'clock.skew',
    `the certificate of ${who} ${early ? 'is not valid yet' : 'has ended'} by this machine's clock, which says ${utc(Date.now())}`,
    false,
    {
      next: `Compare \`date\` on both machines and set the clock that is wrong: ${SET_CLOCK}.${early ? '' : ' If both are right, that machine was away for too long: join it again with a token of minikeep invite.'}`,
    },
  );
}
