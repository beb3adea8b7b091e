/** Flags that several commands have. */
import { parseNetwork } from '@minikeep/containment/guard';
import { InvalidArgumentError, Option } from 'commander';
import { CONTEXT_MAX, LOCAL_NODES_DEFAULT, LOCAL_NODES_MAX, THREADS_MAX } from './defaults.ts';
import { OUTPUT_POLICY_NAMES } from './output-policy-names.ts';
import * as read from './options.ts';

export const cutsOption = (): Option =>
  new Option(
    '--cuts <layers>',
    'first layers of the second, third … stage, for example 10,20',
  ).argParser(read.cuts);
export const threadsOption = (): Option =>
  new Option('--threads <n>', 'threads of each engine (default: half of the cores)').argParser(
    read.integer(1, THREADS_MAX),
  );
export const unsafeOption = (): Option =>
  new Option(
    '--unsafe-no-sandbox',
    'run the engines without a sandbox: they may then do all that you may',
  );
export const modeOption = (): Option =>
  new Option('--mode <mode>', 'exact: the same logits alone and in a crowd; fast: flash attention')
    .choices(['exact', 'fast'])
    .default('exact');
export const localOption = (): Option =>
  new Option(
    '--local <nodes>',
    `nodes of a cluster on this machine (default: ${LOCAL_NODES_DEFAULT})`,
  ).argParser(read.integer(1, LOCAL_NODES_MAX));
export const contextOption = (): Option =>
  new Option(
    '--context <tokens>',
    'tokens of context (default: what the model has, at most 4096)',
  ).argParser(read.integer(16, CONTEXT_MAX));
export const outputGuardOption = (of: string): Option =>
  new Option(
    '--output-guard <policy>',
    `what becomes of ways out in ${of}: report, defang or block`,
  ).choices(OUTPUT_POLICY_NAMES);
export const acceptChangedOption = (): Option =>
  new Option(
    '--accept-changed',
    'start although programs are not what the bundle, the lockfile or the build says; in a cluster that stays it is recorded',
  );
export const homeOption = (): Option =>
  new Option(
    '--home <folder>',
    "this node's state (default: MINIKEEP_HOME, else ~/.minikeep, else that of the service here)",
  );

/** Of a stack. More is a mistake. */
const NETWORKS_MAX = 64;

/**
 * Where machines of the cluster are, besides the networks that this machine is attached to. Linux holds agent and
 * coordinator to them (packages/containment/src/guard).
 */
export const networkOption = (): Option =>
  new Option(
    '--network <cidr>',
    'a network with machines of the cluster behind a router, 10.2.0.0/16; may be repeated',
  )
    .argParser(collect)
    .default([], 'the networks that this machine is attached to');

function collect(text: string, before: readonly string[]): string[] {
  if (parseNetwork(text) === undefined)
    throw new InvalidArgumentError('Give an address and a length, for example 10.2.0.0/16.');
  if (before.length >= NETWORKS_MAX)
    throw new InvalidArgumentError(`At most ${NETWORKS_MAX} networks.`);
  return [...before, text];
}
