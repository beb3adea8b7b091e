/**
 * Looks for a cluster on the local links. Whoever answers is not believed: an answer gives addresses to try, and whoever
 * is there has to show the authority's certificate (pinned.ts, or mutual TLS) before anything is said.
 */
import { isIPv4 } from 'node:net';
import type { Service } from 'bonjour-service';
import { EventQueue } from '@minikeep/protocol';
import { ANNOUNCEMENT_VERSION, SERVICE_TYPE } from './id.ts';
import { linkAddresses, openLink } from './links.ts';

/** Answers come within milliseconds; a question or two may get lost. */
const FIND_MS = 4_000;
const ASK_AGAIN_MS = 1_000;
/** More answers are somebody's game. */
const FOUND_MAX = 16;
const HOSTS_MAX = 8;
const PORT_MAX = 65_535;

export interface Found {
  /** Addresses of the coordinator's machine, the one that answered first. */
  readonly hosts: readonly string[];
  readonly port: number;
  readonly enrolmentPort: number;
}

/** Places where the cluster of that name may be, as they are heard of; ends after a few seconds. */
export async function* find(
  id: string,
  signal: AbortSignal,
): AsyncGenerator<Found, void, undefined> {
  const found = new EventQueue<Found>(FOUND_MAX);
  const heard = new Set<string>();
  const links = linkAddresses().map((address) => openLink(address, () => {}));
  const browsers = links.map((link) =>
    link.find({ type: SERVICE_TYPE }, (service) => {
      const place = read(service, id);
      if (place === undefined || heard.has(JSON.stringify(place))) return;
      heard.add(JSON.stringify(place));
      found.push(place);
    }),
  );
  const again = setInterval(() => {
    for (const browser of browsers) browser.update();
  }, ASK_AGAIN_MS);
  const over = (): void => found.end();
  const timer = setTimeout(over, FIND_MS);
  signal.addEventListener('abort', over, { once: true });
  if (signal.aborted) over();
  try {
    yield* found;
  } finally {
    clearInterval(again);
    clearTimeout(timer);
    signal.removeEventListener('abort', over);
    for (const browser of browsers) browser.stop();
    await Promise.all(
      links.map((link) => new Promise<void>((resolve) => link.destroy(() => resolve()))),
    );
  }
}

/** Undefined: of another cluster, of another version, or nonsense. */
function read(service: Service, id: string): Found | undefined {
  const txt = (service.txt ?? {}) as Record<string, unknown>;
  const enrolmentPort = service.port;
  if (txt['v'] !== ANNOUNCEMENT_VERSION || txt['id'] !== id) return undefined;
  const port = Number(txt['port']);
  if (![port, enrolmentPort].every((p) => Number.isInteger(p) && p > 0 && p <= PORT_MAX))
    return undefined;
  const said = [service.referer?.address, ...(service.addresses ?? [])];
  const hosts = said.filter((host): host is string => typeof host === 'string' && isIPv4(host));
  return { hosts: [...new Set(hosts)].slice(0, HOSTS_MAX), port, enrolmentPort };
}
