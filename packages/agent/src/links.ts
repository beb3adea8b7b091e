/**
 * The ways from this node to the neighbours that it sends frames to: which addresses each has, what each costs, which one
 * is the best. Where there is more than one, all are measured when a neighbour is learnt, and those that are not in use are
 * asked again every few seconds, so that a link that is back is known, and the stream moves there.
 */
import { isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { parseIdentityUri } from '@minikeep/protocol';
import { parseAddress, probe, type Cost, type CredentialPems } from '@minikeep/protocol/rpc';
import type { LinkState } from '@minikeep/protocol/v1';

const PEERS_MAX = 128;
const ADDRESSES_MAX = 32;
const AGAIN_MS = 5_000;
/** What a step's frame weighs in the comparison: between one token's row and a chunk of a prompt. */
const FRAME_BYTES = 256 * 1024;
/** Another way has to be this much better than the one in use: no stream wanders because of noise. */
const BETTER = 0.7;

interface Way {
  readonly address: string;
  latencySeconds: number;
  bytesPerSecond: number;
  /** Undefined: not asked yet. */
  up: boolean | undefined;
}

interface Peer {
  ways: Way[];
  used: string | undefined;
  measuring: boolean;
}

export interface LinksOptions {
  readonly credentials: CredentialPems;
  /** Another way to some neighbour is the best now. */
  onBetter(): void;
  /** Passed in by tests. */
  readonly probe?: typeof probe;
  readonly againMs?: number;
}

export class Links {
  readonly #options: LinksOptions;
  /** By certificate name. */
  readonly #peers = new Map<string, Peer>();
  readonly #timer: NodeJS.Timeout;

  constructor(options: LinksOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      for (const [name, peer] of this.#peers)
        if (peer.used !== undefined) void this.#measure(name, peer);
    }, options.againMs ?? AGAIN_MS);
    this.#timer.unref();
  }

  /** Where a neighbour may be reached, the likeliest first, as the coordinator says. */
  learn(name: string, addresses: readonly string[]): void {
    const before = this.#peers.get(name);
    // The oldest goes: a cluster has fewer nodes.
    if (before === undefined && this.#peers.size >= PEERS_MAX)
      this.#peers.delete(this.#peers.keys().next().value ?? '');
    const ways = addresses.slice(0, ADDRESSES_MAX).map(
      (address): Way =>
        before?.ways.find((way) => way.address === address) ?? {
          address,
          latencySeconds: 0,
          bytesPerSecond: 0,
          up: undefined,
        },
    );
    const peer = { ways, used: before?.used, measuring: false };
    this.#peers.set(name, peer);
    void this.#measure(name, peer, true);
  }

  /** The best first. */
  waysTo(name: string): readonly string[] {
    const peer = this.#peers.get(name);
    if (peer === undefined) return [];
    return peer.ways
      .map((way, i) => ({ way, i, cost: costOf(way) * (way.address === peer.used ? BETTER : 1) }))
      .toSorted((a, b) => a.cost - b.cost || a.i - b.i)
      .map(({ way }) => way.address);
  }

  /** Frames go this way now; undefined: the one in use broke. */
  uses(name: string, address: string | undefined): void {
    const peer = this.#peers.get(name);
    if (peer === undefined) return;
    const broken = peer.ways.find((way) => way.address === peer.used);
    if (address === undefined && broken !== undefined && peer.ways.length > 1) broken.up = false;
    const found = peer.ways.find((way) => way.address === address);
    if (found !== undefined) found.up = true;
    peer.used = address;
  }

  /** No frames go there any more: it is not asked again until it is learnt again. */
  over(name: string): void {
    const peer = this.#peers.get(name);
    if (peer !== undefined) peer.used = undefined;
  }

  states(): LinkState[] {
    return [...this.#peers].flatMap(([name, peer]) =>
      peer.ways.map((way) => ({
        peer: nodeOf(name),
        address: way.address,
        interface: interfaceTo(way.address),
        up: way.up ?? false,
        latencySeconds: way.latencySeconds,
        bytesPerSecond: way.bytesPerSecond,
        inUse: way.address === peer.used,
      })),
    );
  }

  close(): void {
    clearInterval(this.#timer);
    this.#peers.clear();
  }

  /** All ways once; then, where there is a choice, those that are not in use. One after the other: they may share a cable. */
  async #measure(name: string, peer: Peer, all = false): Promise<void> {
    // Where there is no choice, measuring would only cost.
    if (peer.measuring || peer.ways.length < 2) return;
    peer.measuring = true;
    const { credentials } = this.#options;
    const ask = this.#options.probe ?? probe;
    for (const way of peer.ways) {
      const first = way.bytesPerSecond === 0;
      if (!first && !all && way.address === peer.used) continue;
      const cost = await ask(name, way.address, credentials, first || way.up === false).catch(
        (): undefined => undefined,
      );
      if (this.#peers.get(name) !== peer) return;
      note(way, cost);
    }
    peer.measuring = false;
    if (peer.used !== undefined && this.waysTo(name)[0] !== peer.used) this.#options.onBetter();
  }
}

function note(way: Way, cost: Cost | undefined): void {
  way.up = cost !== undefined;
  if (cost === undefined) return;
  way.latencySeconds = cost.latencySeconds;
  if (cost.bytesPerSecond !== undefined) way.bytesPerSecond = cost.bytesPerSecond;
}

/** Seconds for a frame; what is not known comes after what is, and what does not answer last. */
function costOf({ up, latencySeconds, bytesPerSecond }: Way): number {
  if (up === false) return 1e9;
  if (bytesPerSecond === 0) return 1e6;
  return latencySeconds / 2 + FRAME_BYTES / bytesPerSecond;
}

function nodeOf(name: string): string {
  const identity = parseIdentityUri(name);
  return identity?.role === 'node' ? identity.name : '';
}

/** The interface of this machine on whose network that address is. */
function interfaceTo(address: string): string {
  const { host } = parseAddress(address);
  if (!isIPv4(host)) return '';
  for (const [name, all] of Object.entries(networkInterfaces()))
    for (const { family, address: own, netmask } of all ?? [])
      if (family === 'IPv4' && ((bits(own) ^ bits(host)) & bits(netmask)) === 0) return name;
  return '';
}

const bits = (address: string): number =>
  address.split('.').reduce((sum, part) => (sum << 8) | Number(part), 0);
