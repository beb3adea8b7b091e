/** The part of the judgement that depends on which system it is: version, links, sleep, and what macOS asks people. */
import type { LinkFacts, MachineFacts } from './facts.ts';
import { finding, type Finding } from './finding.ts';

const MACOS_MIN = 14;
/** From here on programs that people start need leave to talk to the local network. */
const MACOS_LOCAL_NETWORK = 15;

export function systemFindings(facts: MachineFacts): Finding[] {
  const { platform, system } = facts;
  if (platform !== 'darwin')
    return [
      finding(
        'version.system',
        'ok',
        `Linux ${system.version}${system.chip === undefined ? '' : `, ${system.chip}`}`,
      ),
    ];
  const major = Number.parseInt(system.version, 10);
  const found = [
    major >= MACOS_MIN
      ? finding(
          'version.system',
          'ok',
          `macOS ${system.version}${system.chip === undefined ? '' : `, ${system.chip}`}`,
        )
      : finding(
          'version.system',
          'blocks',
          `macOS ${system.version || '(unknown)'} is too old: ${MACOS_MIN} or newer is needed`,
          'softwareupdate --list',
        ),
  ];
  if (system.filevault === true)
    found.push(
      finding(
        'filevault',
        'warning',
        'FileVault is on: after a power cut this machine waits for a password before anything starts',
        'If the room is safe enough: sudo fdesetup disable. Else plan to type it; sudo fdesetup authrestart only covers restarts that you ask for.',
      ),
    );
  if (system.filevault === false)
    found.push(finding('filevault', 'ok', 'FileVault is off: it starts again unattended'));
  if (system.firewall === true)
    found.push(
      finding(
        'firewall',
        'warning',
        "macOS's firewall is on: it may ask, on a screen that nobody looks at, whether minikeep may be reached",
        `sudo /usr/libexec/ApplicationFirewall/socketfilterfw --add "${facts.installation.folder}/node/bin/node" --unblockapp "${facts.installation.folder}/node/bin/node"`,
      ),
    );
  if (system.quarantined.length > 0)
    found.push(
      finding(
        'quarantine',
        'warning',
        `macOS holds ${system.quarantined.length} files to be downloaded from the internet (com.apple.quarantine) and may refuse to start them`,
        `xattr -dr com.apple.quarantine "${facts.installation.folder}"`,
      ),
    );
  if (major >= MACOS_LOCAL_NETWORK && !facts.is_root && !facts.is_service)
    found.push(
      finding(
        'local_network',
        'note',
        'macOS asks once whether a program that a person starts may talk to the local network; until then nodes are unreachable from it (EHOSTUNREACH). Services and root are exempt',
        'System Settings > Privacy & Security > Local Network; or run the node as a service of launchd',
      ),
    );
  return found;
}

const describe = ({ name, kind, megabits_per_second: speed }: LinkFacts): string =>
  `${name} (${kind}${speed === undefined ? '' : `, ${speed} Mbit/s`})`;

export function linkFindings({ platform, system }: MachineFacts): Finding[] {
  const active = system.links.filter((link) => link.active);
  if (active.length === 0)
    return [
      finding(
        'links',
        'warning',
        'no network link is up: this node would be alone',
        'Plug in a cable, then: minikeep doctor',
      ),
    ];
  const used = active.find((link) => link.name === system.default_link);
  const wired = active.filter((link) => link.kind === 'ethernet' || link.kind === 'thunderbolt');
  const wifi = active.find((link) => link.kind === 'wifi');
  const off = (link: LinkFacts): string =>
    platform === 'darwin'
      ? `networksetup -setairportpower ${link.name} off`
      : `ip link set ${link.name} down`;
  if (wifi !== undefined && wired.length === 0)
    return [
      finding(
        'links',
        'warning',
        `${describe(wifi)} is the only link: rows between nodes would go through the air, about ten times slower`,
        'Plug in an Ethernet or Thunderbolt cable, then: minikeep doctor',
      ),
    ];
  if (wifi !== undefined && used === wifi)
    return [
      finding(
        'links',
        'warning',
        `traffic goes over ${describe(wifi)} although ${wired.map(describe).join(', ')} is up`,
        off(wifi),
      ),
    ];
  const slow = wired.find((link) => (link.megabits_per_second ?? Infinity) < 1000);
  if (slow !== undefined && wired.length === 1)
    return [
      finding(
        'links',
        'warning',
        `${describe(slow)} is slow`,
        'Use another cable (category 5e or better) or another port of the switch.',
      ),
    ];
  return [finding('links', 'ok', `links: ${active.map(describe).join(', ')}`)];
}

const PMSET = 'sudo pmset -a sleep 0 disksleep 0 autorestart 1 womp 1 powernap 0';

export function powerFindings({ system }: MachineFacts): Finding[] {
  const { power } = system;
  if (power === undefined)
    return system.on_battery === true
      ? [
          finding(
            'sleep',
            'note',
            'this machine has a battery: see that it does not sleep with its lid closed',
            'sudo systemctl mask sleep.target suspend.target',
          ),
        ]
      : [];
  const faults = [
    (power.sleep_minutes ?? 0) > 0 ? `sleeps after ${power.sleep_minutes} minutes` : '',
    (power.disk_sleep_minutes ?? 0) > 0
      ? `lets its disk sleep after ${power.disk_sleep_minutes}`
      : '',
    power.restarts === false ? 'stays off after a power cut' : '',
    power.wakes_for_network === false ? 'does not wake for the network' : '',
  ].filter((text) => text !== '');
  if (faults.length === 0)
    return [finding('sleep', 'ok', 'it never sleeps, and starts again after a power cut')];
  return [finding('sleep', 'warning', `this machine ${faults.join(', ')}`, PMSET)];
}
