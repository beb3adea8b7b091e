/** The ways from this node to its neighbours: which addresses each has, and which of them is the best. */

const PEERS_MAX = 128;
const ADDRESSES_MAX = 32;

export class Links {
  /** By certificate name; addresses host:port, the likeliest first. */
  readonly #addresses = new Map<string, readonly string[]>();

  /** Where a neighbour may be reached, as the coordinator says. */
  learn(peer: string, addresses: readonly string[]): void {
    // The oldest goes: a cluster has fewer nodes.
    if (this.#addresses.size >= PEERS_MAX && !this.#addresses.has(peer))
      this.#addresses.delete(this.#addresses.keys().next().value ?? '');
    this.#addresses.set(peer, addresses.slice(0, ADDRESSES_MAX));
  }

  /** The best first. */
  waysTo(peer: string): readonly string[] {
    return this.#addresses.get(peer) ?? [];
  }
}
