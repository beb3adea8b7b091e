/** The HTTP server of the API, with limits on everything that a caller can stretch. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { formatAddress, isLoopback, parseAddress } from '@minikeep/protocol/rpc';
import { createAdaptorServer } from '@hono/node-server';
import type { Cluster } from '../cluster.ts';
import { apiApp } from './app.ts';

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 30_000;
const CONNECTIONS_MAX = 512;
const HEADER_BYTES_MAX = 16 * 1024;

export interface RunningApi {
  /** http://host:port */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Throws `api.not_loopback`, `listen.port_in_use`, `listen.failed`. */
export async function startApi(
  cluster: Cluster,
  listen: string,
  version: string,
): Promise<RunningApi> {
  const { host, port = 0 } = parseAddress(listen);
  if (!isLoopback(host)) throw notLoopback(listen);
  const names = new Set(['127.0.0.1', '::1', 'localhost', host.toLowerCase()]);
  const app = apiApp(cluster, () => names, version);
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: HEADER_BYTES_MAX,
    },
  }) as Server;
  server.maxConnections = CONNECTIONS_MAX;
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (cause) {
    throw listenFailed(listen, cause);
  }
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://${formatAddress(host, bound)}`,
    port: bound,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close').catch(() => {});
    },
  };
}

/** Without keys and TLS everybody who reaches the port could ask. */
const notLoopback = (listen: string): MinikeepError =>
  new MinikeepError(
    'api.not_loopback',
    `the API would listen on ${listen}, where other machines could ask without a key`,
    {
      next: 'Give api_listen in node.json an address of this machine alone, like 127.0.0.1:7423.',
      exitCode: EXIT.usage,
    },
  );

function listenFailed(listen: string, cause: unknown): MinikeepError {
  const inUse = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
  return new MinikeepError(
    inUse ? 'listen.port_in_use' : 'listen.failed',
    inUse
      ? `another program already listens on ${listen}`
      : `can't listen on ${listen}: ${String(cause)}`,
    {
      next: 'Choose another address for the API: api_listen in node.json.',
      exitCode: EXIT.failed,
      cause,
    },
  );
}
