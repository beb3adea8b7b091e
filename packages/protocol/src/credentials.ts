/**
 * Mutual TLS 1.3 with our own names: a server's certificate is checked for the identity that the caller wants to reach,
 * not for a host name; a client's is handed to the access rules (access.ts).
 */
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type PeerCertificate, type SecureContextOptions } from 'node:tls';
import { subscribe } from 'node:diagnostics_channel';
import type { ServerHttp2Stream } from 'node:http2';
import {
  ChannelCredentials,
  ServerCredentials,
  logVerbosity,
  setLogVerbosity,
  type ChannelOptions,
  type ServerInterceptor,
} from '@grpc/grpc-js';
import { EXIT, MinikeepError } from './errors.ts';
import { identityOfSubjectAltName, identityUri, type Identity } from './identity.ts';
import type { Revocations } from './revocations.ts';
import {
  CONCURRENT_STREAMS_MAX,
  CONNECT_TIMEOUT_MS,
  FLOW_WINDOW_BYTES,
  HTTP2_FRAME_BYTES_MAX,
  KEEPALIVE_IDLE_MS,
  KEEPALIVE_TIMEOUT_MS,
  MESSAGE_BYTES_MAX,
} from './limits.ts';

// The library reports to stderr what it also throws; users get our errors.
setLogVerbosity(logVerbosity.NONE);

/** Where a process finds its own certificate, its key and the cluster's authority (PEM files). */
export interface CredentialFiles {
  readonly authority: string;
  readonly certificate: string;
  readonly privateKey: string;
}

/** The same, read. An object whose fields may change: each new connection takes what they are then. */
export interface CredentialPems {
  readonly authority: string;
  readonly certificate: string;
  readonly privateKey: string;
  /** Who is shut out, also as a server that we call. */
  readonly revocations?: Revocations;
}

/** Reads the three files. Throws `identity.files_unreadable`, `identity.files_invalid`. */
export async function readCredentials(files: CredentialFiles): Promise<CredentialPems> {
  const read = async (file: string): Promise<string> => {
    try {
      return await readFile(file, 'utf8');
    } catch (cause) {
      throw new MinikeepError('identity.files_unreadable', `can't read ${file}`, {
        next: 'Check that the file exists and that this user may read it.',
        cause,
      });
    }
  };
  const pems = {
    authority: await read(files.authority),
    certificate: await read(files.certificate),
    privateKey: await read(files.privateKey),
  };
  checkPems(pems, files);
  return pems;
}

/** Found out here, they have a name; later they would look like a fault of an address or a connection. */
function checkPems(pems: CredentialPems, files: CredentialFiles): void {
  const check = (what: string, does: () => unknown): void => {
    try {
      does();
    } catch (cause) {
      throw new MinikeepError('identity.files_invalid', what, {
        next: 'Use the files that were issued together for this process.',
        cause,
      });
    }
  };
  check(`${files.authority} is no certificate`, () => new X509Certificate(pems.authority));
  check(`${files.certificate} is no certificate`, () => new X509Certificate(pems.certificate));
  check(`${files.privateKey} is no private key`, () => createPrivateKey(pems.privateKey));
  check(`${files.privateKey} is not the key of ${files.certificate}`, () =>
    createSecureContext({ cert: pems.certificate, key: pems.privateKey }),
  );
}

/** Stands in TLS where a host name would; names are checked by identity instead. */
const SERVER_NAME = 'minikeep';

/** Options of every channel. No proxy from the environment, no look-ups besides the address itself, no retries that keep frames in memory. */
export const CHANNEL_OPTIONS: ChannelOptions = {
  'grpc.ssl_target_name_override': SERVER_NAME,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.keepalive_time_ms': KEEPALIVE_IDLE_MS,
  'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  // nice-grpc gives connection attempts this limit; grpc-js alone has none.
  'grpc.min_reconnect_backoff_ms': CONNECT_TIMEOUT_MS,
  'grpc-node.flow_control_window': FLOW_WINDOW_BYTES,
  'grpc.enable_channelz': 0,
};

export const SERVER_OPTIONS: ChannelOptions = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.keepalive_time_ms': KEEPALIVE_IDLE_MS,
  'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
  'grpc.max_concurrent_streams': CONCURRENT_STREAMS_MAX,
  'grpc.enable_channelz': 0,
};

/** Credentials for calling the process with exactly that identity; a stranger has only the authority's certificate. */
export function channelCredentials(
  pems: CredentialPems | Pick<CredentialPems, 'authority'>,
  expected: Identity,
): ChannelCredentials {
  const wanted = identityUri(expected);
  const revocations = 'revocations' in pems ? pems.revocations : undefined;
  const context = createSecureContext({
    ca: pems.authority,
    ...('certificate' in pems ? { cert: pems.certificate, key: pems.privateKey } : {}),
    minVersion: 'TLSv1.3',
  });
  return ChannelCredentials.createFromSecureContext(context, {
    checkServerIdentity(_host: string, certificate: PeerCertificate): Error | undefined {
      const found = identityOfSubjectAltName(certificate.subjectaltname);
      if (revocations?.has(certificate.serialNumber) === true)
        return new MinikeepError('access.removed', `${wanted} was removed from the cluster`, {
          next: 'See who is there with `minikeep nodes`.',
          exitCode: EXIT.denied,
        });
      if (found !== undefined && identityUri(found) === wanted) return undefined;
      return new MinikeepError(
        'access.wrong_server',
        `expected ${wanted}, but there answered ${found === undefined ? 'a stranger' : identityUri(found)}`,
        { next: 'Check the addresses of the nodes with `minikeep nodes`.', exitCode: EXIT.denied },
      );
    },
  });
}

/** Server credentials whose certificate can be replaced. */
export class RenewableCredentials extends ServerCredentials {
  readonly #interceptors: readonly ServerInterceptor[];

  constructor(
    pems: CredentialPems,
    requestCert: boolean,
    interceptors: readonly ServerInterceptor[],
  ) {
    super(
      {
        requestCert,
        rejectUnauthorized: requestCert,
        // Anyone may connect: who does not prove to be of the cluster soon may not keep a descriptor of ours.
        handshakeTimeout: CONNECT_TIMEOUT_MS,
        settings: {
          initialWindowSize: FLOW_WINDOW_BYTES,
          maxFrameSize: HTTP2_FRAME_BYTES_MAX,
          maxConcurrentStreams: CONCURRENT_STREAMS_MAX,
        },
      },
      contextOf(pems),
    );
    this.#interceptors = interceptors;
  }

  /** From now on handshakes use what the fields of `pems` are now: a certificate was renewed. */
  renew(pems: CredentialPems): void {
    this.updateSecureContextOptions(contextOf(pems));
  }

  override _getInterceptors(): ServerInterceptor[] {
    return [...this.#interceptors];
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

/** The authority goes along: who joins looks for its key in the chain. */
function contextOf(pems: CredentialPems): SecureContextOptions {
  return {
    ca: pems.authority,
    cert: `${pems.certificate}${pems.authority}`,
    key: pems.privateKey,
    minVersion: 'TLSv1.3',
  };
}

/** A certificate of the authority is asked of every client; `interceptors` decide what it may call. */
export function serverCredentials(
  pems: CredentialPems,
  interceptors: readonly ServerInterceptor[],
): RenewableCredentials {
  widenServerSessions();
  return new RenewableCredentials(pems, true, interceptors);
}

/** No certificate is asked: for the one service that machines call before they have any. */
export function strangersCredentials(pems: CredentialPems): RenewableCredentials {
  return new RenewableCredentials(pems, false, []);
}

let widened = false;

/**
 * grpc-js widens the whole connection's receive window on the client's side only; a server would stay at 64 KiB for
 * each round trip. Node announces every server stream, and with it its session.
 */
function widenServerSessions(): void {
  if (widened) return;
  widened = true;
  const done = new WeakSet<object>();
  subscribe('http2.server.stream.created', (message) => {
    const { session } = (message as { stream: ServerHttp2Stream }).stream;
    if (session === undefined || session.destroyed || done.has(session)) return;
    done.add(session);
    session.setLocalWindowSize(FLOW_WINDOW_BYTES);
  });
}
