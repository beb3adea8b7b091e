/**
 * Nothing outlives the warden. macOS has no signal for a parent's death, so beside each child stands a guard: a shell
 * that waits on a pipe of ours and kills the child's group as soon as the kernel closes that pipe, whatever ended us.
 */
import type { ChildProcess } from 'node:child_process';
import type { Commands } from './commands.ts';

/** Its first argument is a process group. The form of `kill` that dash and bash both take. */
const GUARD = 'read nothing; kill -s KILL -- "-$1"';

/** `onLost`: the guard ended although the child has not. It ends by itself with the child. */
export function guard(commands: Commands, child: ChildProcess, onLost: () => void): void {
  const watcher = commands.start(
    commands.shell,
    ['-c', GUARD, 'minikeep-guard', String(child.pid)],
    ['pipe', 'ignore', 'ignore'],
  );
  watcher.stdin?.on('error', () => undefined);
  watcher.once('exit', onLost);
  watcher.once('error', onLost);
  // It must not outlive the child: the group's number may be given to somebody else.
  child.once('exit', () => {
    watcher.removeAllListeners('exit');
    watcher.kill('SIGKILL');
  });
}
