/** Addresses of a node that its certificate names: those that mean the same on every machine. */
import { isLoopback, parseAddress, plainAddress } from '@minikeep/protocol/rpc';

/** `addresses`: host:port. Each once, in order, so that two lists of the same are alike. */
export function certifiable(addresses: readonly string[]): string[] {
  const found = addresses.flatMap((address) => {
    const { host } = parseAddress(address);
    const plain = isLoopback(host) ? undefined : plainAddress(host);
    return plain === undefined ? [] : [plain];
  });
  return [...new Set(found)].toSorted();
}

/** Who announces itself, as its connection shows. */
export interface Announcer {
  readonly host: string;
  /** Of its certificate, and the addresses in it. */
  readonly serial: string;
  readonly named?: readonly string[];
}

/** The addresses in the certificate that each node got last from this process. */
export class CertifiedAddresses {
  readonly #byNode = new Map<string, readonly string[]>();

  set(node: string, addresses: readonly string[]): void {
    this.#byNode.set(node, addresses);
  }

  forget(node: string): void {
    this.#byNode.delete(node);
  }

  /** Whether one of `addresses` (host:port) is missing. `named`: in the certificate that its connection began with. */
  lacks(node: string, named: readonly string[], addresses: readonly string[]): boolean {
    const known = new Set([...named, ...(this.#byNode.get(node) ?? [])]);
    return certifiable(addresses).some((address) => !known.has(address));
  }
}
