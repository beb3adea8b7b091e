/**
 * How a test says what it needs of the machine. A reason that begins with "needs" can be met by installing
 * something (`.ci/run` does, and forbids skipping); one that begins with "not here: " can't, on this machine.
 */
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
