/** What Linux says about itself in /proc and /sys. */
import type { LinkFacts, LinkKind, SystemFacts } from './facts.ts';
import type { Probe } from './probe.ts';

export async function linuxFacts(probe: Probe): Promise<SystemFacts> {
  const supplies = probe.list('/sys/class/power_supply');
  return {
    version: (probe.read('/proc/sys/kernel/osrelease') ?? '').trim(),
    chip: /^model name\s*:\s*(.+)$/m.exec(probe.read('/proc/cpuinfo') ?? '')?.[1],
    clock_synchronized: await clockSynchronized(probe),
    links: linuxLinks(probe),
    default_link: defaultLink(probe.read('/proc/net/route') ?? ''),
    quarantined: [],
    on_battery: supplies.some((name) => name.startsWith('BAT')),
    unread: [],
  };
}

/** systemd's word for it; unknown without systemd. */
async function clockSynchronized(probe: Probe): Promise<boolean | undefined> {
  const { code, stdout } = await probe.run('timedatectl', [
    'show',
    '-p',
    'NTPSynchronized',
    '--value',
  ]);
  return code === 0 ? stdout.trim() === 'yes' : undefined;
}

function linuxLinks(probe: Probe): LinkFacts[] {
  const at = '/sys/class/net';
  return probe
    .list(at)
    .filter((name) => name !== 'lo')
    .map((name) => {
      const speed = Number(probe.read(`${at}/${name}/speed`) ?? '');
      const inside = probe.list(`${at}/${name}`);
      const kind: LinkKind =
        inside.includes('wireless') || inside.includes('phy80211')
          ? 'wifi'
          : name.startsWith('thunderbolt')
            ? 'thunderbolt'
            : (probe.read(`${at}/${name}/type`) ?? '').trim() === '1'
              ? 'ethernet'
              : 'other';
      const state = (probe.read(`${at}/${name}/operstate`) ?? '').trim();
      return {
        name,
        kind,
        // Virtual links know no state.
        active:
          state === 'up' ||
          (state === 'unknown' && (probe.read(`${at}/${name}/carrier`) ?? '').trim() === '1'),
        megabits_per_second: speed > 0 ? speed : undefined,
      };
    })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** The link of the route to 0.0.0.0 with the lowest metric (columns: Iface Destination Gateway Flags RefCnt Use Metric …). */
export function defaultLink(table: string): string | undefined {
  const routes = table
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[1] === '00000000' && columns[7] === '00000000');
  return routes.toSorted((a, b) => Number(a[6]) - Number(b[6]))[0]?.[0];
}
