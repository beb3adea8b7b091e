/**
 * Announces where a cluster's coordinator is. It tells strangers on the local link that there is a minikeep, its name
 * made of digests, and two ports: no name of the cluster, no key. Runs in the process of `minikeep start`, which holds
 * no key: everyone on the link may send it packets.
 */
import type { Bonjour } from 'bonjour-service';
import { ANNOUNCEMENT_VERSION, SERVICE_TYPE } from './id.ts';
import { linkAddresses, openLink } from './links.ts';

/** How soon a change of this machine's addresses is announced. */
const LOOK_MS = 2_000;
const GOODBYE_MS = 500;

export interface Announcement {
  readonly id: string;
  /** Where the coordinator's services listen, and where strangers join. */
  readonly port: number;
  readonly enrolmentPort: number;
  /** It listens on this address only. */
  readonly only?: string;
  /** Each fault once: an announcement is never a reason to stop. */
  onWarning(message: string): void;
}

export interface Announced {
  /** Says goodbye and closes every socket. */
  close(): Promise<void>;
}

export function announce(announcement: Announcement): Announced {
  let links: Bonjour[] = [];
  let known: string | undefined;
  const told = new Set<string>();
  const warn = ({ message }: Error): void => {
    if (told.has(message)) return;
    told.add(message);
    announcement.onWarning(message);
  };
  const look = async (): Promise<void> => {
    const addresses = linkAddresses(announcement.only);
    if (addresses.join() === known) return;
    known = addresses.join();
    const before = links;
    links = addresses.map((address) => publish(address, announcement, warn));
    await Promise.all(before.map(close));
  };
  void look();
  const timer = setInterval(() => void look(), LOOK_MS);
  timer.unref();
  return {
    async close() {
      clearInterval(timer);
      await Promise.all(links.splice(0).map(close));
    },
  };
}

function publish(
  address: string,
  { id, port, enrolmentPort }: Announcement,
  warn: (error: Error) => void,
): Bonjour {
  const bonjour = openLink(address, warn);
  const name = `minikeep-${id.slice(0, 12)}`;
  bonjour.publish({
    name,
    // Two machines may have one host name; this one is the cluster's own.
    host: `${name}.local`,
    type: SERVICE_TYPE,
    port: enrolmentPort,
    txt: { v: ANNOUNCEMENT_VERSION, id, port: String(port) },
    // The name is made of a digest: nobody else has it, and the same cluster's other links are no conflict.
    probe: false,
    disableIPv6: true,
  });
  return bonjour;
}

/** A goodbye, if the link still takes it; the socket is closed in any case. */
async function close(bonjour: Bonjour): Promise<void> {
  const said = new Promise<void>((resolve) => bonjour.unpublishAll(() => resolve()));
  await Promise.race([said, new Promise((resolve) => setTimeout(resolve, GOODBYE_MS))]);
  await new Promise<void>((resolve) => bonjour.destroy(() => resolve()));
}
