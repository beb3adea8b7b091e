/** Servers and clients of the control plane: nice-grpc with our credentials, access rules, limits and errors. */
import type { ServerInterceptor } from '@grpc/grpc-js';
import {
  createChannel,
  createClientFactory,
  createServer,
  type Channel,
  type Client,
  type CompatServiceDefinition,
  type Server,
} from 'nice-grpc';
import { EXIT, MinikeepError } from './errors.ts';
import {
  CHANNEL_OPTIONS,
  SERVER_OPTIONS,
  channelCredentials,
  serverCredentials,
  strangersCredentials,
  type CredentialPems,
  type RenewableCredentials,
} from './credentials.ts';
import { frameTap } from './frame-tap.ts';
import type { Identity } from './identity.ts';
import { reaching } from './reaching.ts';
import { guardPort } from './strangers.ts';
import {
  errorClientMiddleware,
  errorServerMiddleware,
  type ConnectionFault,
} from './rpc-errors.ts';

/** A server to add services to; see `listen`. */
export function makeServer(): Server {
  return createServer(SERVER_OPTIONS).use(errorServerMiddleware);
}

export type { Client, CompatServiceDefinition };

/** A server that listens. */
export interface Listening {
  readonly port: number;
  /** From now on handshakes use what the fields of `pems` are now. */
  renew(pems: CredentialPems): void;
}

/**
 * Binds the server to `host:port` (port 0: the kernel chooses).
 * Throws `listen.port_in_use`, `listen.failed`.
 */
export function listen(
  server: Server,
  address: string,
  pems: CredentialPems,
  interceptors: readonly ServerInterceptor[],
): Promise<Listening> {
  return bind(server, address, serverCredentials(pems, [...interceptors, frameTap]));
}

/** As `listen`, for callers that have no certificate yet: only the server shows one. */
export function listenToStrangers(
  server: Server,
  address: string,
  pems: CredentialPems,
): Promise<Listening> {
  return bind(server, address, strangersCredentials(pems));
}

async function bind(
  server: Server,
  address: string,
  credentials: RenewableCredentials,
): Promise<Listening> {
  try {
    const port = await server.listen(address, credentials);
    guardPort(port);
    return { port, renew: (pems) => credentials.renew(pems) };
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    if (message.includes('EADDRINUSE'))
      throw new MinikeepError(
        'listen.port_in_use',
        `another program already listens on ${address}`,
        {
          next: 'End that program, or choose another address with --listen.',
          exitCode: EXIT.failed,
          cause,
        },
      );
    throw new MinikeepError('listen.failed', `can't listen on ${address}: ${message}`, {
      next: 'Choose an address of this machine with --listen.',
      cause,
    });
  }
}

export interface Connection<Service extends CompatServiceDefinition> {
  readonly client: Client<Service>;
  close(): void;
}

/**
 * A client without a certificate, for the coordinator of the authority whose certificate `authority` is: only a machine
 * that joins calls so, after it has looked at the authority (pinned.ts).
 */
export function connectAsStranger<Service extends CompatServiceDefinition>(
  definition: Service,
  address: string,
  authority: string,
  identity: Identity,
  who: string,
  onFault?: (fault: ConnectionFault) => MinikeepError,
): Connection<Service> {
  reaching(address);
  const channel = createChannel(
    address,
    channelCredentials({ authority }, identity),
    CHANNEL_OPTIONS,
  );
  const client = createClientFactory()
    .use(errorClientMiddleware(who, onFault))
    .create(definition, channel);
  return { client, close: () => channel.close() };
}

/**
 * A client for the process with that identity at `host:port`. `who` names it in errors, `onFault` says what a fault of the
 * connection means here. Connects at the first call.
 */
export function connect<Service extends CompatServiceDefinition>(
  definition: Service,
  address: string,
  pems: CredentialPems,
  identity: Identity,
  who: string,
  onFault?: (fault: ConnectionFault) => MinikeepError,
): Connection<Service> {
  reaching(address);
  const channel: Channel = createChannel(
    address,
    channelCredentials(pems, identity),
    CHANNEL_OPTIONS,
  );
  const client = createClientFactory()
    .use(errorClientMiddleware(who, onFault))
    .create(definition, channel);
  return { client, close: () => channel.close() };
}

/** A signal that aborts after `ms`, or with `signal`, whichever comes first. */
export function deadline(ms: number, signal?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(ms);
  return signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
}
