/**
 * How a test says what it needs of the machine. A reason that begins with "needs" can be met by installing
 * something (`.ci/run` does, and forbids skipping); one that begins with "not here: " can't, on this machine.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** vitest's test context, as far as it is used here. */
export interface Skippable {
  skip(note?: string): never;
}

/** The repository's root. */
export const REPOSITORY = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');

/** Skips unless the tests run as root (user ids, mounts and network namespaces). */
export function needRoot(ctx: Skippable): void {
  if (process.getuid?.() !== 0) ctx.skip('needs root: run `sudo npm test`');
}

/** Skips unless `command` is on the PATH or in the system's sbin folders; returns its path. */
export function needCommand(ctx: Skippable, command: string, debianPackage: string): string {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  const found = folders
    .filter((folder) => folder !== '')
    .map((folder) => path.join(folder, command))
    .find((file) => existsSync(file));
  return found ?? ctx.skip(`needs ${command}: apt-get install ${debianPackage}`);
}

const NAMESPACES_TRIAL = `ip link add b0 type bridge && ip link add v0 type veth peer name v1 &&
  unshare --mount --pid --net --uts --ipc --fork --kill-child --propagation private sh -c '
    mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mount --bind /etc /opt && hostname trial'`;

/** Skips unless machines can be made of namespaces here, with links between them (scripts/namespaces); root only. */
export function needNamespaces(ctx: Skippable): void {
  onlyOn(ctx, 'linux');
  needRoot(ctx);
  needCommand(ctx, 'ip', 'iproute2');
  needCommand(ctx, 'unshare', 'util-linux');
  const { status, stderr } = spawnSync(
    'unshare',
    [
      '--mount',
      '--net',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      'sh',
      '-c',
      NAMESPACES_TRIAL,
    ],
    { encoding: 'utf8', timeout: 30_000 },
  );
  if (status !== 0)
    ctx.skip(`not here: namespaces with links (${stderr.trim().split('\n')[0]?.slice(0, 100)})`);
}

/** Skips unless the tests run on `platform`. */
export function onlyOn(ctx: Skippable, platform: 'linux' | 'darwin'): void {
  if (process.platform !== platform)
    ctx.skip(`not here: ${platform === 'darwin' ? 'macOS' : 'Linux'} only`);
}

/** The path of a trained model that lies beside the repository (`../shared/models`), or skips. */
export function needSharedModel(ctx: Skippable, file: string): string {
  const found = path.resolve(REPOSITORY, '../shared/models', file);
  if (!existsSync(found)) ctx.skip(`not here: ../shared/models/${file}`);
  return found;
}
