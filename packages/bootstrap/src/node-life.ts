/** Starting and stopping a node on its machine: as a service, or in the background where nothing manages services. */
import { MinikeepError } from '@minikeep/protocol';
import { quote } from './ssh.ts';
import type { Target } from './target.ts';

export const isService = ({ looked }: Target): boolean =>
  looked.manager !== 'none' && looked.asRoot !== 'no';

/** Runs when this resolves; one that runs is left alone. Returns what is left by hand. */
export async function startNode(target: Target): Promise<readonly string[]> {
  const { home, manager, asRoot } = target.looked;
  if (await runsAsService(target)) return [];
  if (isService(target)) {
    const limit = target.ssh.node.hardware.wired_limit;
    const { by_hand } = await target.minikeep<{ by_hand?: string[] }>([
      'service',
      'install',
      '--home',
      home,
      ...(limit === undefined ? [] : ['--wired-limit', String(Math.floor(limit / 1024 ** 2))]),
    ]);
    return by_hand ?? [];
  }
  await target.minikeep(['start', '--background', '--home', home]);
  if (manager === 'none')
    return [
      `nothing on ${target.name} manages services, so the node does not start by itself: run this when the machine starts: ${target.program} start --background --home ${home}`,
    ];
  return asRoot === 'no'
    ? [
        `the node on ${target.name} runs, but does not start by itself after a reboot: that takes your password there. ssh -t ${target.ssh.typed.replace(/^ssh /, '')} 'sudo ${target.program} service install --home ${home}'`,
      ]
    : [];
}

/** Also where a person has made it one by hand. */
async function runsAsService(target: Target): Promise<boolean> {
  const status = await target.checked<{ running?: boolean; enabled?: boolean; home?: string }>([
    'service',
    'status',
  ]);
  return status.running === true && status.enabled === true && status.home === target.looked.home;
}

/** Nothing of it runs when this resolves. Throws `bootstrap.not_stopped`. */
export async function stopNode(target: Target): Promise<void> {
  const { manager, home } = target.looked;
  const { code, stderr } = await target.run(
    !isService(target)
      ? `${quote(target.program)} stop --home ${quote(home)} --json`
      : manager === 'systemd'
        ? 'systemctl stop minikeep.service'
        : 'launchctl bootout system/minikeep.node; true',
  );
  if (code === 0 || stderr.includes('stop.not_running')) return;
  throw new MinikeepError(
    'bootstrap.not_stopped',
    stderr.includes('stop.is_service')
      ? `${target.name} runs as a service, and to stop it takes root: bootstrap has no such right there`
      : `the node on ${target.name} could not be ended: ${stderr.trim().slice(-300)}`,
    {
      next: `Let bootstrap in as root, or with sudo that asks no password; or end it by hand: ssh -t ${target.ssh.typed.replace(/^ssh /, '')} sudo minikeep service remove`,
    },
  );
}
