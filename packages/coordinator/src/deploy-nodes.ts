/**
 * Which nodes an `up` that names none may use: those that are there, in service, and of the coordinator's version. The
 * others are left out, and said.
 */
import { EXIT, MinikeepError, PROTOCOL_VERSION, versionMismatch } from '@minikeep/protocol';
import { toErrorDetail } from '@minikeep/protocol/rpc';
import type { LeftOutNode } from '@minikeep/protocol/v1';
import { nodeDraining } from './reconcile/faults.ts';

/** What of a node counts here. */
export interface Candidate {
  readonly name: string;
  readonly up: boolean;
  readonly draining: boolean;
  /** Of its program; empty while it is not known. */
  readonly version: string;
  /** Why it is not up. */
  readonly error: MinikeepError | undefined;
}

export interface LeftOut {
  readonly node: string;
  readonly why: MinikeepError;
}

/** In the order given. Throws `deploy.no_nodes` when none is left. */
export function chooseNodes(
  candidates: readonly Candidate[],
  version: string,
): {
  readonly used: readonly string[];
  readonly leftOut: readonly LeftOut[];
} {
  const used: string[] = [];
  const leftOut: LeftOut[] = [];
  for (const { name, up, draining, error, version: theirs } of candidates)
    if (draining) leftOut.push({ node: name, why: nodeDraining(name) });
    else if (up && theirs !== version)
      leftOut.push({ node: name, why: otherVersion(name, theirs, version) });
    else if (up) used.push(name);
    else leftOut.push({ node: name, why: error ?? away(name) });
  if (used.length > 0) return { used, leftOut };
  throw new MinikeepError('deploy.no_nodes', `no node can take layers: ${listed(leftOut)}`, {
    next: leftOut[0]?.why.next ?? 'Let a node join first: minikeep invite',
    exitCode: EXIT.unreachable,
  });
}

/** An error of planning, with those that could have helped. */
export function withLeftOut(error: MinikeepError, leftOut: readonly LeftOut[]): MinikeepError {
  if (leftOut.length === 0 || !/^(plan\.|deploy\.too_few_nodes)/.test(error.code)) return error;
  const names = leftOut.map(({ node }) => node).join(', ');
  return new MinikeepError(error.code, `${error.message}; left out: ${listed(leftOut)}`, {
    next: `It may fit when ${names} ${leftOut.length === 1 ? 'is' : 'are'} there: see \`minikeep nodes\`. Else: ${error.next}`,
    exitCode: error.exitCode,
    details: { ...error.details, left_out: names },
  });
}

export const leftOutMessages = (leftOut: readonly LeftOut[]): LeftOutNode[] =>
  leftOut.map(({ node, why }) => ({ node, why: toErrorDetail(why) }));

const listed = (leftOut: readonly LeftOut[]): string =>
  leftOut.map(({ node, why }) => `${node} (${why.message})`).join(', ');

/** They can talk, but what one version computes the other need not: an upgrade that has not come to its end. */
export const otherVersion = (node: string, theirs: string, ours: string): MinikeepError =>
  versionMismatch(
    { who: `node ${node}`, version: theirs, protocol: PROTOCOL_VERSION },
    { who: 'the coordinator', version: ours, protocol: PROTOCOL_VERSION },
  );

const away = (node: string): MinikeepError =>
  new MinikeepError('node.unreachable', `node ${node} has not answered yet`, {
    next: 'Start its agent: minikeep start',
    exitCode: EXIT.unreachable,
  });
