/** Flags that several commands have. */
import { Option } from 'commander';
import { CONTEXT_MAX, LOCAL_NODES_DEFAULT, LOCAL_NODES_MAX, THREADS_MAX } from './defaults.ts';
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
export const homeOption = (): Option =>
  new Option(
    '--home <folder>',
    "this node's state (default: MINIKEEP_HOME, else ~/.minikeep, else that of the service here)",
  );
