/** What a node's event means for a deployment: the one error that names node and stage, or nothing. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { fromErrorDetail } from '@minikeep/protocol/rpc';
import type { EngineExit, PipelineFault, StepFault, Struck } from '@minikeep/protocol/v1';
import { stageName, type StageOnNode } from './diagnose.ts';

export interface Place {
  readonly stage: StageOnNode | undefined;
  readonly index: number;
}

const detailsOf = ({ stage, index }: Place) => ({ node: stage?.node.name ?? '', stage: index });

export function nodeLost(place: Place, why: MinikeepError): MinikeepError {
  const node = place.stage?.node.name ?? '';
  return new MinikeepError(
    'node.lost',
    `${stageName(place.stage, place.index)} is gone: ${why.message}`,
    {
      next: `Start the agent on ${node} again, then deploy again.`,
      exitCode: EXIT.unreachable,
      details: detailsOf(place),
    },
  );
}

export function engineDied(place: Place, exit: EngineExit): MinikeepError {
  if (exit.struck !== undefined) return stopped(place, exit.struck);
  const how =
    exit.reason !== ''
      ? exit.reason
      : exit.signal !== ''
        ? `it was ended by ${exit.signal}`
        : `it ended with code ${exit.exitCode}`;
  const attempts = exit.violations > 0 ? `; ${exit.violations} attempts of it were refused` : '';
  return new MinikeepError(
    'engine.died',
    `the engine of ${stageName(place.stage, place.index)} is gone: ${how}${attempts}`,
    {
      next: 'Deploy again; if it happens again, see `minikeep violations` and the memory of that node.',
      details: { ...detailsOf(place), signal: exit.signal, violations: exit.violations },
    },
  );
}

function stopped(place: Place, { kind, operation }: Struck): MinikeepError {
  return new MinikeepError(
    'deployment.quarantined',
    `the engine of ${stageName(place.stage, place.index)} tried to get out and was stopped (${kind}: ${operation})`,
    {
      next: 'It is not started again. See what it tried: minikeep violations',
      exitCode: EXIT.denied,
      details: detailsOf(place),
    },
  );
}

/** How an engine ended, when the reason is all that counts. */
export const howItEnded = (exit: EngineExit): string =>
  exit.reason !== '' ? exit.reason : exit.signal || `code ${exit.exitCode}`;

export function takenDown(name: string): MinikeepError {
  return new MinikeepError('deployment.ended', `the deployment ${name} was taken down`, {
    next: 'Deploy again with `minikeep up`.',
  });
}

export function textEngineDied(node: string, how: string): MinikeepError {
  return new MinikeepError('engine.text_died', `the text engine on node ${node} is gone: ${how}`, {
    next: 'Try again: it is started anew a few times. A template or vocabulary that ends it should not be trusted.',
    details: { node },
  });
}

export function stepFailed(place: Place, event: StepFault): MinikeepError {
  const fault = event.error === undefined ? undefined : fromErrorDetail(event.error);
  return new MinikeepError(
    fault?.code ?? 'engine.step_failed',
    `${stageName(place.stage, place.index)}: ${fault?.message ?? 'a step failed'}`,
    { next: fault?.next ?? 'Try again.', details: detailsOf(place) },
  );
}

export function streamLost(place: Place, event: PipelineFault): MinikeepError {
  const way = `${event.downstream ? 'to' : 'from'} ${event.neighbour}`;
  return new MinikeepError(
    'pipeline.stream_lost',
    `${stageName(place.stage, place.index)} lost its stream of frames ${way}: ${event.error?.message ?? ''}`,
    {
      next: 'Look at both nodes and the network between them, then deploy again.',
      exitCode: EXIT.unreachable,
      details: detailsOf(place),
    },
  );
}
