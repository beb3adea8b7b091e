/** Starting and stopping a node on its machine: as a service, or in the background where nothing manages services. */
import { quote } from './ssh.ts';
import type { Target } from './target.ts';

export const isService = ({ looked }: Target): boolean =>
  looked.manager !== 'none' && looked.asRoot !== 'no';

/** Runs when this resolves; one that runs is left alone. Returns what is left by hand. */
export async function startNode(target: Target): Promise<readonly string[]> {
  const { home, manager, asRoot } = target.looked;
  if (isService(target)) {
    const status = await target.checked<{ running?: boolean; enabled?: boolean; home?: string }>([
      'service',
      'status',
    ]);
    if (status.running === true && status.enabled === true && status.home === home) return [];
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

/** Nothing of it runs when this resolves. */
export async function stopNode(target: Target): Promise<void> {
  const { manager, home } = target.looked;
  if (!isService(target)) {
    await target.run(`${quote(target.program)} stop --home ${quote(home)} --json`);
    return;
  }
  await target.run(
    manager === 'systemd'
      ? 'systemctl stop minikeep.service'
      : 'launchctl bootout system/minikeep.node; true',
  );
}
