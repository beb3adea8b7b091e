/** What this package may do to a machine. Tests of macOS give recorded answers; on Linux they use the real one. */
import { machineProbe, type Probe } from '@minikeep/doctor/probe';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';

export interface FileFacts {
  readonly uid: number;
  readonly mode: number;
  readonly directory: boolean;
}

export interface Machine extends Probe {
  readonly platform: NodeJS.Platform;
  readonly root: boolean;
  stat(file: string): FileFacts | undefined;
  write(file: string, content: string, mode: number): void;
  remove(file: string): void;
  sleep(milliseconds: number): Promise<void>;
}

/** Longer than a service takes to end in order. */
const RUN_MS_MAX = 90_000;
const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;

export const THIS_MACHINE: Machine = {
  platform: process.platform,
  root: process.geteuid?.() === 0,
  ...machineProbe({
    env: { LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    timeoutMs: RUN_MS_MAX,
    outputBytesMax: OUTPUT_BYTES_MAX,
  }),
  stat(file) {
    const found = statSync(file, { throwIfNoEntry: false });
    return found === undefined
      ? undefined
      : { uid: found.uid, mode: found.mode & 0o7777, directory: found.isDirectory() };
  },
  write(file, content, mode) {
    // A link in its place would lead us to write somewhere else, as root.
    if (lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true)
      throw new MinikeepError('service.file_is_link', `${file} is a symbolic link`, {
        next: `See where it leads, remove it, and try again: ls -l ${file}`,
      });
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o755 });
    const part = `${file}.${process.pid}.new`;
    writeFileSync(part, content, { mode, flag: 'wx' });
    chmodSync(part, mode);
    renameSync(part, file);
  },
  remove(file) {
    rmSync(file, { force: true });
    // A folder of ours, once nothing of ours is in it.
    if (
      path.basename(path.dirname(file)) === 'minikeep' &&
      this.list(path.dirname(file)).length === 0
    )
      rmSync(path.dirname(file), { recursive: true, force: true });
  },
  sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
};

export const readBefore = (
  machine: Machine,
  file: string,
): { content: string; mode: number } | undefined => {
  const content = machine.read(file);
  return content === undefined ? undefined : { content, mode: machine.stat(file)?.mode ?? 0o644 };
};

/** The system's own programs lie in one of these, and root runs nothing from elsewhere. */
const FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/** Throws `service.no_program`. */
export function programOf(machine: Machine, name: string): string {
  const found = FOLDERS.map((folder) => `${folder}/${name}`).find(
    (file) => machine.stat(file) !== undefined,
  );
  if (found !== undefined) return found;
  throw new MinikeepError('service.no_program', `this system has no ${name}`, {
    next: 'Run the node without a service manager: minikeep start --background --home DIR',
  });
}
