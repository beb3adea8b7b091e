/**
 * Multicast DNS on each link of this machine: a socket for every interface, because one alone would speak to the first
 * interface only. Packets go to 224.0.0.251, which no router passes on: nothing leaves the local links.
 */
import { networkInterfaces } from 'node:os';
import { Bonjour } from 'bonjour-service';

const LINKS_MAX = 16;

/** IPv4 addresses of this machine's interfaces that are up, one for each; `only`: of the interface with that address. */
export function linkAddresses(only?: string): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => {
      const usable = (addresses ?? []).filter(
        ({ family, internal, address }) =>
          family === 'IPv4' && !internal && (only === undefined || address === only),
      );
      return usable.slice(0, 1).map(({ address }) => address);
    })
    .toSorted()
    .slice(0, LINKS_MAX);
}

/** What of the library has to be reached to hear of errors: unheard ones would end the process. */
interface WithServer {
  readonly server: { readonly mdns: { on(event: string, listener: (error: Error) => void): void } };
}

export function openLink(address: string, onWarning: (error: Error) => void): Bonjour {
  // Bound to every address: a socket bound to one of them gets no multicast on Linux.
  const options = { interface: address, bind: '0.0.0.0' } as Record<string, unknown>;
  const bonjour = new Bonjour(options, onWarning);
  const { mdns } = (bonjour as unknown as WithServer).server;
  mdns.on('error', onWarning);
  mdns.on('warning', () => {});
  return bonjour;
}
