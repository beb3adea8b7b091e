/**
 * Connections of which nobody knows yet whose they are. Anybody on the network may open one; only a call that the access
 * rules let through shows that a member did. Until then it is one of few, for a short time: when there are too many, the
 * oldest goes, because an honest caller needs a moment only, and refusing new ones would let idle ones shut everybody out.
 */
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** Of a process, on all its ports; a cluster is a stack of machines in one room. */
export const UNPROVEN_MAX = 256;
/** From one address. */
export const UNPROVEN_OF_HOST_MAX = 64;
/** A handshake and the first call take a fraction of a second, on a machine with too much to do a few. */
export const UNPROVEN_MS_MAX = 20_000;

export interface UnprovenLimits {
  readonly total: number;
  readonly ofHost: number;
  readonly ms: number;
}

export class Unproven {
  readonly #limits: UnprovenLimits;
  /** Oldest first; by `address:port` of the far end. */
  readonly #sockets = new Map<string, { readonly socket: Socket; readonly host: string }>();
  readonly #timers = new WeakMap<Socket, NodeJS.Timeout>();

  constructor(limits: UnprovenLimits) {
    this.#limits = limits;
  }

  get count(): number {
    return this.#sockets.size;
  }

  /** A connection was accepted. */
  add(socket: Socket): void {
    const { remoteAddress: host, remotePort } = socket;
    // It was gone before it was looked at.
    if (host === undefined || remotePort === undefined) {
      socket.destroy();
      return;
    }
    const key = `${host}:${remotePort}`;
    this.#sockets.set(key, { socket, host });
    const timer = setTimeout(() => socket.destroy(), this.#limits.ms);
    timer.unref();
    socket.once('close', () => {
      clearTimeout(timer);
      if (this.#sockets.get(key)?.socket === socket) this.#sockets.delete(key);
    });
    this.#timers.set(socket, timer);
    this.#makeRoom(host);
  }

  /** A call of a member came over the connection from there. */
  proven(peer: string): void {
    const found = this.#sockets.get(peer);
    if (found === undefined) return;
    clearTimeout(this.#timers.get(found.socket));
    this.#sockets.delete(peer);
  }

  #makeRoom(host: string): void {
    const ofHost = [...this.#sockets].filter(([, each]) => each.host === host);
    const [oldestOfHost] = ofHost;
    const [oldest] = this.#sockets;
    const one = ofHost.length > this.#limits.ofHost ? oldestOfHost : undefined;
    const other = this.#sockets.size > this.#limits.total ? oldest : undefined;
    const gone = one ?? other;
    if (gone === undefined) return;
    const [key, { socket }] = gone;
    this.#sockets.delete(key);
    socket.destroy();
  }
}

/** Of this process. */
export const unproven = new Unproven({
  total: UNPROVEN_MAX,
  ofHost: UNPROVEN_OF_HOST_MAX,
  ms: UNPROVEN_MS_MAX,
});

const guarded = new Set<number>();

/** From now on connections to that port of this process are strangers' until a call proves otherwise. */
export function guardPort(port: number): void {
  if (guarded.size === 0)
    // grpc-js keeps its listening sockets to itself; Node tells of every connection that one of them accepts.
    subscribe('net.server.socket', (message) => {
      const { socket } = message as { socket: Socket };
      if (socket.localPort !== undefined && guarded.has(socket.localPort)) unproven.add(socket);
    });
  guarded.add(port);
}
