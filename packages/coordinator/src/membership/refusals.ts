/** What machines are told that may not join, or not stay. */
import { EXIT, MinikeepError } from '@minikeep/protocol';

export const refusedToken = (): MinikeepError =>
  new MinikeepError(
    'token.refused',
    'the token was refused: it is used, expired, or not of this cluster',
    {
      next: 'Make a new one on the first node: minikeep invite. There, `minikeep events` says why this one was refused.',
      exitCode: EXIT.denied,
    },
  );

export const badName = (name: string): MinikeepError =>
  new MinikeepError('node.name_invalid', `"${name.slice(0, 80)}" can't be the name of a node`, {
    next: 'Use 1 to 63 lower-case letters, digits, dots, underscores or hyphens: --name mini-2',
    exitCode: EXIT.usage,
  });

export const removed = (name: string): MinikeepError =>
  new MinikeepError('node.removed', `node ${name} was removed from the cluster`, {
    next: 'Join again with a new token: minikeep invite on the first node, minikeep join here.',
    exitCode: EXIT.denied,
  });

export const cloned = (name: string): MinikeepError =>
  new MinikeepError('node.cloned', `node ${name} already runs: two machines have the same home`, {
    next: 'Empty the copied home on one of them, and join that machine with a token of its own.',
    exitCode: EXIT.denied,
  });

export const outdated = (node: string): MinikeepError =>
  new MinikeepError(
    'coordinator.outdated',
    `node ${node} has heard from a newer coordinator of this cluster: this one is a copy from before a restore`,
    {
      next: 'Stop the older one for good: its home is the copy. The other one serves the cluster.',
      exitCode: EXIT.denied,
    },
  );
