/**
 * The wall in nftables: one table that replaces itself in one transaction, dropping and counting whatever is not named,
 * in, out and through. And what stands in the kernel now, in a form that can be compared (pure).
 */
import { createHash } from 'node:crypto';
import type { Families, Wall } from './wall.ts';

export const TABLE = 'minikeep';
/** Kernel log groups that dropped packets go to: `nft monitor`, ulogd, tcpdump -i nflog:N. */
const LOG_GROUP = 77;
const MDNS_PORT = 5353;

/** Of both families, where they have something. */
function both(what: Families, rule: (family: 'ip' | 'ip6', set: string) => string): string[] {
  const set = (items: readonly string[]): string => `{ ${items.join(', ')} }`;
  return [
    ...(what.v4.length === 0 ? [] : [rule('ip', set(what.v4))]),
    ...(what.v6.length === 0 ? [] : [rule('ip6', set(what.v6))]),
  ];
}

/**
 * For `nft -f -`. Packets of connections that began before are judged like all others: what was open to the outside
 * world, ends.
 */
export function nftRules(wall: Wall): string {
  const { peers, ports, api, admins, sshPort, discovery } = wall;
  const portSet = `{ ${ports.join(', ')} }`;
  const link = [
    // Neighbours, routers and groups of IPv6 on the link; answers to what left are told by their own rules.
    'ip6 hoplimit 255 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept',
    'ip6 saddr fe80::/10 icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept',
    'ip6 saddr :: icmpv6 type { mld2-listener-report, nd-neighbor-solicit } accept',
    ...(discovery
      ? [
          `ip daddr 224.0.0.251 udp sport ${MDNS_PORT} udp dport ${MDNS_PORT} accept`,
          `ip6 daddr ff02::fb udp sport ${MDNS_PORT} udp dport ${MDNS_PORT} accept`,
          'ip protocol igmp ip daddr { 224.0.0.1, 224.0.0.22, 224.0.0.251 } accept',
        ]
      : []),
  ];
  const input = [
    ...both(peers, (family, set) => `${family} saddr ${set} tcp dport ${portSet} accept`),
    ...both(
      peers,
      (family, set) => `${family} saddr ${set} tcp sport ${portSet} ct state established accept`,
    ),
    ...(api === undefined
      ? []
      : both(api.clients, (family, set) => `${family} saddr ${set} tcp dport ${api.port} accept`)),
    ...both(admins, (family, set) => `${family} saddr ${set} tcp dport ${sshPort} accept`),
    'udp sport 67 udp dport 68 accept',
    ...link,
  ];
  const output = [
    ...both(peers, (family, set) => `${family} daddr ${set} tcp dport ${portSet} accept`),
    ...both(
      peers,
      (family, set) => `${family} daddr ${set} tcp sport ${portSet} ct state established accept`,
    ),
    ...(api === undefined
      ? []
      : both(
          api.clients,
          (family, set) =>
            `${family} daddr ${set} tcp sport ${api.port} ct state established accept`,
        )),
    ...both(
      admins,
      (family, set) => `${family} daddr ${set} tcp sport ${sshPort} ct state established accept`,
    ),
    'udp sport 68 udp dport 67 accept',
    ...link,
  ];
  const chain = (
    name: string,
    hook: string,
    loopback: string,
    rules: readonly string[],
  ): string[] => [
    `chain ${name} {`,
    // After connection tracking (-200), before other filters.
    `type filter hook ${hook} priority -150; policy drop;`,
    ...(loopback === '' ? [] : [`${loopback} "lo" accept`]),
    ...rules,
    `log group ${LOG_GROUP} counter drop`,
    '}',
  ];
  return [
    // Made if it is not there, so that it can be deleted: all in one transaction.
    `table inet ${TABLE}`,
    `delete table inet ${TABLE}`,
    `table inet ${TABLE} {`,
    ...chain('incoming', 'input', 'iif', input),
    ...chain('outgoing', 'output', 'oif', output),
    // A machine of the cluster is no router, of containers neither.
    ...chain('through', 'forward', '', []),
    '}',
    '',
  ].join('\n');
}

export const NFT_REMOVE = `table inet ${TABLE}\ndelete table inet ${TABLE}\n`;

interface Listing {
  readonly nftables?: readonly Readonly<Record<string, unknown>>[];
}

/** What `nft -j list table inet minikeep` printed, without what changes by itself: handles and counts. Pure. */
export function nftDigest(listing: string): string {
  const { nftables = [] } = JSON.parse(listing) as Listing;
  const items = nftables.filter((item) => !('metainfo' in item)).map(plain);
  return createHash('sha256').update(JSON.stringify(items)).digest('hex');
}

/** Packets that were dropped, by chain. */
export function nftDropped(listing: string): Readonly<Record<string, number>> {
  const { nftables = [] } = JSON.parse(listing) as Listing;
  const dropped: Record<string, number> = {};
  for (const item of nftables) {
    const rule = item['rule'] as { chain?: string; expr?: readonly object[] } | undefined;
    const counter = rule?.expr?.find((each) => 'counter' in each) as
      | { counter: { packets?: number } }
      | undefined;
    if (rule?.chain !== undefined && counter !== undefined)
      dropped[rule.chain] = (dropped[rule.chain] ?? 0) + (counter.counter.packets ?? 0);
  }
  return dropped;
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => name !== 'handle' && name !== 'packets' && name !== 'bytes')
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, plain(inner)]),
  );
}
