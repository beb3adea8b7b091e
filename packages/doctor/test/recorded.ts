/**
 * Real output of macOS's commands, each with its source; nobody who wrote this had a Mac. Addresses of people's machines
 * are left out.
 */
import type { Answer, Probe } from '../src/index.ts';

/** macOS 14 on a Mac mini: ezone.co.uk, "Setting up a power schedule for macOS with pmset", without its remarks. */
export const PMSET = `System-wide power settings:
Currently in use:
 disksleep            10
 powernap             1
 womp                 1
 networkoversleep     0
 sleep                10 (sleep prevented by sharingd, powerd, bluetoothd)
 Sleep On Power Button 1
 ttyskeepawake        1
 tcpkeepalive         1
 autorestart          1
 standby              0
 displaysleep         10
`;

/** superuser.com/questions/267660, an answer with \`networksetup -listallhardwareports\`. */
export const HARDWARE_PORTS = `
Hardware Port: Bluetooth DUN
Device: Bluetooth-Modem
Ethernet Address: N/A

Hardware Port: Ethernet
Device: en0
Ethernet Address: 00:00:00:00:00:00

Hardware Port: Wi-Fi
Device: en1
Ethernet Address: 00:00:00:00:00:00

Hardware Port: Thunderbolt 1
Device: en2
Ethernet Address: 00:00:00:00:00:00
`;

/** stackoverflow.com/questions/29958143 (\`ifconfig\`), with that machine's en0 and en1; en2 from cyberjedizen.blogspot.com, 2018-03. */
export const IFCONFIG = `lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
	options=3<RXCSUM,TXCSUM>
	inet6 ::1 prefixlen 128
	inet 127.0.0.1 netmask 0xff000000
gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
	ether 00:00:00:00:00:00
	inet 172.30.7.47 netmask 0xffff0000 broadcast 172.30.255.255
	nd6 options=1<PERFORMNUD>
	media: autoselect
	status: active
en1: flags=8963<UP,BROADCAST,SMART,RUNNING,PROMISC,SIMPLEX,MULTICAST> mtu 1500
	options=60<TSO4,TSO6>
	ether 00:00:00:00:00:00
	media: autoselect <full-duplex>
	status: inactive
en2: flags=8963<UP,BROADCAST,SMART,RUNNING,PROMISC,SIMPLEX,MULTICAST> mtu 1500
	options=60<TSO4,TSO6>
	ether 00:00:00:00:00:00
	nd6 options=201<PERFORMNUD,DAD>
	media: autoselect <full-duplex>
	status: inactive
`;

const ok = (stdout: string): Answer => ({ code: 0, stdout, stderr: '' });

/** Command line → answer. The single lines are those of the commands' manual pages (fdesetup, sysctl, sw_vers, xattr). */
export const ANSWERS: Readonly<Record<string, Answer>> = {
  '/usr/bin/sw_vers -productVersion': ok('14.2.1\n'),
  '/usr/sbin/sysctl -n machdep.cpu.brand_string': ok('Apple M4 Pro\n'),
  '/usr/sbin/sysctl -n iogpu.wired_limit_mb': ok('0\n'),
  '/usr/sbin/networksetup -listallhardwareports': ok(HARDWARE_PORTS),
  '/sbin/ifconfig': ok(IFCONFIG),
  '/sbin/route -n get default': ok(
    '   route to: default\ndestination: default\n       mask: default\n    gateway: 172.30.0.1\n  interface: en0\n',
  ),
  '/usr/bin/pmset -g': ok(PMSET),
  '/usr/bin/fdesetup status': ok('FileVault is On.\n'),
  '/usr/libexec/ApplicationFirewall/socketfilterfw --getglobalstate': ok(
    'Firewall is enabled. (State = 1)\n',
  ),
  '/usr/bin/xattr -p com.apple.quarantine /a/node': ok('0081;5f3c1e2a;Safari;\n'),
  '/usr/bin/xattr -p com.apple.quarantine /a/koffi.node': {
    code: 1,
    stdout: '',
    stderr: 'xattr: /a/koffi.node: No such xattr: com.apple.quarantine\n',
  },
};

/** A Mac that answers what was recorded, and knows no other command. */
export const recordedMac = (changes: Readonly<Record<string, Answer>> = {}): Probe => ({
  run: (file, args) =>
    Promise.resolve(
      { ...ANSWERS, ...changes }[[file, ...args].join(' ')] ?? {
        code: null,
        stdout: '',
        stderr: `spawn ${file} ENOENT`,
      },
    ),
  read: () => undefined,
  list: () => [],
});
