/** What reconciling refuses, and what it says to those who ask for a model that is not up. */
import { EXIT, MinikeepError } from '@minikeep/protocol';

export function alreadyUp(name: string): MinikeepError {
  return new MinikeepError('deployment.exists', `${name} is already up, or coming up`, {
    next: `See \`minikeep status\`, or take it down first: minikeep down ${name}`,
    exitCode: EXIT.usage,
  });
}

export function notUp(name: string): MinikeepError {
  return new MinikeepError('deployment.unknown', `${name.slice(0, 80)} is not up`, {
    next: 'See `minikeep status` for what is.',
    exitCode: EXIT.usage,
  });
}

export function unknownNode(node: string): MinikeepError {
  return new MinikeepError('node.unknown', `there is no node ${node.slice(0, 80)}`, {
    next: 'See `minikeep nodes` for those that there are.',
    exitCode: EXIT.usage,
  });
}

export function nodeDraining(node: string): MinikeepError {
  return new MinikeepError('node.draining', `node ${node} is drained: it takes no deployment`, {
    next: `Put it to work again: minikeep node resume ${node}`,
    exitCode: EXIT.usage,
    details: { node },
  });
}

export function noRoomElsewhere(node: string, deployment: string): MinikeepError {
  return new MinikeepError(
    'drain.no_room',
    `without node ${node} there is no room for ${deployment}; nothing was changed`,
    {
      next: `Take it down first (minikeep down ${deployment}), or add a node.`,
      details: { node, deployment },
    },
  );
}

export function noRoomWithout(node: string, deployment: string): MinikeepError {
  return new MinikeepError(
    'remove.no_room',
    `without node ${node} there is no room for ${deployment}; nothing was changed`,
    {
      next: `Take it down first (minikeep down ${deployment}), or add a node. To shut ${node} out all the same, at once: minikeep node remove ${node} --force; ${deployment} then waits.`,
      details: { node, deployment },
    },
  );
}

/** For answers that were under way: nobody has to do anything. */
export function comesBack(name: string, { code, message, exitCode, details }: MinikeepError) {
  const { node } = details;
  const look = typeof node === 'string' && node !== '' ? `; if not, look at node ${node}` : '';
  const next = `${name} comes back by itself${look}. Ask again when \`minikeep status\` shows it ready.`;
  return new MinikeepError(code, message, { next, exitCode, details });
}

/** Wanted, but a node that it needs is not there. */
export function waitingFor(
  name: string,
  node: string,
  error: MinikeepError | undefined,
): MinikeepError {
  const why = error === undefined ? '' : `: ${error.message}`;
  return new MinikeepError('deployment.waiting', `${name} waits for node ${node}${why}`, {
    next: `It comes up by itself when ${node} is back; without that node: minikeep down ${name}, then minikeep up ${name}.`,
    exitCode: EXIT.unreachable,
    details: { node, deployment: name },
  });
}

export function notReady(name: string, error: MinikeepError | undefined): MinikeepError {
  if (error === undefined)
    return new MinikeepError('deployment.not_ready', `${name} is being loaded`, {
      next: 'Wait until `minikeep status` shows it ready.',
    });
  return new MinikeepError(
    'deployment.not_ready',
    `${name} is not up; it is tried again by itself: ${error.message}`,
    { next: error.next, exitCode: error.exitCode, details: { ...error.details } },
  );
}
