/** What macOS says about itself, by its own commands. None of this ever ran on a Mac: see test/darwin for the recordings. */
import type { LinkFacts, LinkKind, PowerFacts, SystemFacts } from './facts.ts';
import type { Answer, Probe } from './probe.ts';

const FIREWALL = '/usr/libexec/ApplicationFirewall/socketfilterfw';

export async function darwinFacts(probe: Probe, ourFiles: readonly string[]): Promise<SystemFacts> {
  const unread: string[] = [];
  const ask = async (file: string, ...args: string[]): Promise<string> => {
    const answer = await probe.run(file, args);
    if (answer.code !== 0) unread.push(unreadText(file, args, answer));
    return answer.code === 0 ? answer.stdout : '';
  };
  const version = (await ask('/usr/bin/sw_vers', '-productVersion')).trim();
  const chip = (await ask('/usr/sbin/sysctl', '-n', 'machdep.cpu.brand_string')).trim();
  const wired = (await ask('/usr/sbin/sysctl', '-n', 'iogpu.wired_limit_mb')).trim();
  const ports = await ask('/usr/sbin/networksetup', '-listallhardwareports');
  const interfaces = await ask('/sbin/ifconfig');
  // No default route is an answer as well, and a usual one without the internet.
  const route = await probe.run('/sbin/route', ['-n', 'get', 'default']);
  return {
    version,
    chip: chip === '' ? undefined : chip,
    wired_limit_mebibytes: /^\d+$/.test(wired) ? Number(wired) : undefined,
    links: darwinLinks(ports, interfaces),
    default_link: /^\s*interface: (\S+)$/m.exec(route.stdout)?.[1],
    power: parsePmset(await ask('/usr/bin/pmset', '-g')),
    filevault: parseFileVault(await ask('/usr/bin/fdesetup', 'status')),
    firewall: parseFirewall(await ask(FIREWALL, '--getglobalstate')),
    quarantined: await quarantined(probe, ourFiles),
    unread,
  };
}

const unreadText = (file: string, args: readonly string[], answer: Answer): string =>
  `\`${[file, ...args].join(' ')}\` did not answer: ${answer.stderr.trim().split('\n')[0]?.slice(0, 200) || `exit ${answer.code}`}`;

/** `pmset -g`: a line a setting, its value first, remarks after it. Undefined when there is not one that is known. */
export function parsePmset(text: string): PowerFacts | undefined {
  const value = (name: string): number | undefined => {
    const found = new RegExp(`^\\s*${name}\\s+(\\d+)`, 'm').exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  const flag = (name: string): boolean | undefined => {
    const found = value(name);
    return found === undefined ? undefined : found !== 0;
  };
  const power = {
    sleep_minutes: value('sleep'),
    disk_sleep_minutes: value('disksleep'),
    restarts: flag('autorestart'),
    wakes_for_network: flag('womp'),
  };
  return Object.values(power).some((one) => one !== undefined) ? power : undefined;
}

export function parseFileVault(text: string): boolean | undefined {
  if (/FileVault is On/.test(text)) return true;
  return /FileVault is Off/.test(text) ? false : undefined;
}

export function parseFirewall(text: string): boolean | undefined {
  const state = /State = (\d)/.exec(text)?.[1];
  return state === undefined ? undefined : state !== '0';
}

/** Hardware ports name the links; `ifconfig` says which of them are up. */
export function darwinLinks(hardwarePorts: string, interfaces: string): LinkFacts[] {
  const blocks = new Map<string, string>();
  let name = '';
  for (const line of interfaces.split('\n')) {
    const begin = /^([a-z]+\d+): flags=/.exec(line)?.[1];
    if (begin !== undefined) name = begin;
    blocks.set(name, `${blocks.get(name) ?? ''}${line}\n`);
  }
  return [...hardwarePorts.matchAll(/^Hardware Port: (.+)\nDevice: (\S+)$/gm)].flatMap(
    ([, port = '', device = '']) => {
      const block = blocks.get(device);
      if (block === undefined) return [];
      // A link without an address carries nothing of ours.
      const active = /^\s*status: active$/m.test(block) && /^\s*inet6? /m.test(block);
      return [{ name: device, kind: kindOf(port), active, megabits_per_second: speedOf(block) }];
    },
  );
}

function kindOf(port: string): LinkKind {
  if (/Wi-?Fi|AirPort/i.test(port)) return 'wifi';
  if (/Thunderbolt/i.test(port)) return 'thunderbolt';
  return /Ethernet|LAN/i.test(port) ? 'ethernet' : 'other';
}

/** `media: autoselect (1000baseT <full-duplex>)`, `(2500Base-T …)`, `(10Gbase-T …)`. */
function speedOf(block: string): number | undefined {
  const [, number, giga] = /media: .*\((\d+)(G)?base/i.exec(block) ?? [];
  return number === undefined ? undefined : Number(number) * (giga === undefined ? 1 : 1000);
}

/** `xattr -p` ends with 1 for a file without it. */
async function quarantined(probe: Probe, files: readonly string[]): Promise<string[]> {
  const held: string[] = [];
  for (const file of files) {
    const { code, stdout } = await probe.run('/usr/bin/xattr', [
      '-p',
      'com.apple.quarantine',
      file,
    ]);
    if (code === 0 && stdout.trim() !== '') held.push(file);
  }
  return held;
}
