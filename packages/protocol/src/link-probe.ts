/** What a way to a neighbour costs: round trips of nothing, then bytes. Over a connection of its own, for it may be dead. */
import type { CredentialPems } from './credentials.ts';
import {
  LinkServiceDefinition,
  type LinkServiceClient,
  type LinkServiceImplementation,
} from './generated/v1.ts';
import { parseIdentityUri } from './identity.ts';
import { connect, deadline } from './rpc.ts';

const ROUND_TRIPS = 5;
const TRANSFERS = 3;
const MEASURABLE_MS = 0.05;
const PROBE_TIMEOUT_MS = 5_000;
const BYTES_FIRST = 256 * 1024;
const BYTES_MAX = 4 * 1024 * 1024;
/** A transfer that took this long tells the speed. */
const ENOUGH_MS = 40;

export interface Cost {
  readonly latencySeconds: number;
  /** Undefined: not asked for. */
  readonly bytesPerSecond: number | undefined;
}

/** Throws when nobody, or somebody else, answers. */
export async function probe(
  peer: string,
  address: string,
  credentials: CredentialPems,
  speedToo: boolean,
): Promise<Cost> {
  const identity = parseIdentityUri(peer);
  if (identity === undefined) throw new Error('a neighbour without an identity');
  const connection = connect(LinkServiceDefinition, address, credentials, identity, identity.name);
  const { client } = connection;
  try {
    let latencyMs = Infinity;
    // The first one connects.
    for (let i = 0; i <= ROUND_TRIPS; i++) {
      const took = await send(client, 0);
      if (i > 0) latencyMs = Math.min(latencyMs, took);
    }
    const bytesPerSecond = speedToo ? await speed(client, latencyMs) : undefined;
    return { latencySeconds: latencyMs / 1000, bytesPerSecond };
  } finally {
    connection.close();
  }
}

/** Ever larger pieces, until one takes long enough to be measured; the best of a few, for others use the machine too. */
async function speed(client: LinkServiceClient, latencyMs: number): Promise<number> {
  for (let bytes = BYTES_FIRST; ; bytes *= 4) {
    let bestMs = Infinity;
    for (let i = 0; i < TRANSFERS; i++) bestMs = Math.min(bestMs, await send(client, bytes));
    const tookMs = Math.max(MEASURABLE_MS, bestMs - latencyMs);
    if (tookMs >= ENOUGH_MS || bytes * 4 > BYTES_MAX) return (bytes / tookMs) * 1000;
  }
}

async function send(client: LinkServiceClient, bytes: number): Promise<number> {
  const started = performance.now();
  await client.probe({ payload: new Uint8Array(bytes) }, { signal: deadline(PROBE_TIMEOUT_MS) });
  return performance.now() - started;
}

export const linkService: LinkServiceImplementation = {
  probe: () => Promise.resolve({}),
};
