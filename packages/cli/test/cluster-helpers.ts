/** What the tests with real processes share: a running cluster, answers collected, and proof that nothing is left. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import type { CredentialPems } from '@minikeep/protocol/rpc';
import {
  ExactMode,
  OutputPolicy,
  type DeployResponse,
  type DeploymentStatus,
  type GenerateDone,
  type GenerateRequest,
} from '@minikeep/protocol/v1';
import { REPOSITORY } from '@minikeep/testkit';
import { expect } from 'vitest';
import { startLocalCluster, type LocalCluster } from '../src/local-cluster.ts';
import type { Identity } from '@minikeep/protocol';

export const DIST = path.join(REPOSITORY, 'dist');

/** A temporary cache, so that tests neither use nor fill the user's. */
export class Cache {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'minikeep-test-cache-'));
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function start(
  nodes: number,
  cache: Cache,
  options: { readonly signal?: AbortSignal; readonly unsafeNoSandbox?: boolean } = {},
): Promise<LocalCluster> {
  return startLocalCluster({
    nodes,
    distFolder: DIST,
    cacheFolder: cache.folder,
    ...options,
  });
}

export interface DeployOptions {
  readonly name?: string;
  readonly cuts?: readonly number[];
  readonly nodes?: readonly string[];
  readonly parallel?: number;
  readonly context?: number;
  readonly batch?: number;
  readonly noText?: boolean;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: NonNullable<DeployResponse['event']>) => void;
}

/** One thread for each engine: several share few cores here. */
export async function deploy(
  cluster: LocalCluster,
  modelPath: string,
  options: DeployOptions = {},
): Promise<DeploymentStatus> {
  const request = {
    name: options.name ?? 'test',
    modelPath,
    cuts: [...(options.cuts ?? [])],
    nodes: [...(options.nodes ?? [])],
    noText: options.noText ?? false,
    context: {
      nCtx: options.context ?? 512,
      nBatch: options.batch ?? 64,
      nSeqMax: options.parallel ?? 1,
      mode: ExactMode.EXACT_MODE_EXACT,
      threads: 1,
      gpu: false,
    },
  };
  let status: DeploymentStatus | undefined;
  const call = cluster.operator.deploy(
    request,
    options.signal === undefined ? {} : { signal: options.signal },
  );
  for await (const { event } of call) {
    if (event !== undefined) options.onEvent?.(event);
    if (event?.$case === 'ready') status = event.value.deployment;
  }
  if (status === undefined) throw new Error('the deployment ended without being ready');
  return status;
}

export interface Answer {
  readonly ids: number[];
  readonly text: string;
  readonly done: GenerateDone;
}

type Prompt = NonNullable<GenerateRequest['prompt']>;

export const tokens = (ids: readonly number[]): Prompt => ({
  $case: 'tokens',
  value: { ids: [...ids] },
});

export const chat = (content: string): Prompt => ({
  $case: 'chat',
  value: { messages: [{ role: 'user', content, extraJson: '' }], templateArgumentsJson: '' },
});

export interface AskOptions {
  readonly maxTokens?: number;
  readonly deployment?: string;
  readonly sampling?: GenerateRequest['sampling'];
  readonly signal?: AbortSignal;
  readonly onToken?: (count: number) => void;
  /** Tokens of the prompt that are done, after each chunk. */
  readonly onPrefill?: (doneTokens: number) => void;
}

/** One greedy answer that goes past the end of generation unless told otherwise, so that its length is known. */
export async function ask(
  cluster: Pick<LocalCluster, 'operator'>,
  prompt: Prompt,
  options: AskOptions = {},
): Promise<Answer> {
  const ids: number[] = [];
  let text = '';
  let done: GenerateDone | undefined;
  const call = cluster.operator.generate(
    {
      deployment: options.deployment ?? 'test',
      prompt,
      sampling: options.sampling ?? { temperature: 0, ignoreEog: true, stop: [] },
      maxTokens: options.maxTokens ?? 16,
      // What a random model says is full of finds, and here it is what it said that counts.
      outputGuard: OutputPolicy.OUTPUT_POLICY_REPORT,
    },
    options.signal === undefined ? {} : { signal: options.signal },
  );
  for await (const { event } of call) {
    if (event?.$case === 'prefill') options.onPrefill?.(event.value.doneTokens);
    if (event?.$case === 'token') {
      ids.push(event.value.id);
      text += event.value.text;
      options.onToken?.(ids.length);
    }
    if (event?.$case === 'done') done = event.value;
  }
  if (done === undefined) throw new Error('the answer ended without being done');
  return { ids, text, done };
}

/** The error of a call that must fail, and that it failed as users are meant to see it. */
export async function failure(call: Promise<unknown>): Promise<MinikeepError> {
  const thrown: unknown = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(thrown).toBeInstanceOf(MinikeepError);
  const error = thrown as MinikeepError;
  expect(error.code).toMatch(/^[a-z]+\.[a-z_]+$/);
  expect(error.message.length).toBeGreaterThan(0);
  expect(error.next.length).toBeGreaterThan(0);
  return error;
}

export async function credentials(
  cluster: LocalCluster,
  role: Identity['role'],
  name: string,
): Promise<CredentialPems> {
  const issued = await cluster.authority.issue(role, name);
  return {
    authority: cluster.authority.certificatePem,
    certificate: issued.certificatePem,
    privateKey: issued.privateKeyPem,
  };
}

interface ProcessLine {
  readonly pid: number;
  readonly parent: number;
}

function processes(): ProcessLine[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const text = readFileSync(`/proc/${name}/stat`, 'utf8');
        const [state, parent] = text.slice(text.lastIndexOf(')') + 2).split(' ');
        // A zombie is a process that has ended; who started it has not looked yet.
        return state === 'Z' ? [] : [{ pid: Number(name), parent: Number(parent) }];
      } catch {
        return [];
      }
    });
}

/** The processes and all that they started, while they still run. */
export function treeOf(roots: readonly number[]): number[] {
  const all = processes();
  const found = new Set(roots);
  for (let grew = true; grew;) {
    grew = false;
    for (const { pid, parent } of all)
      if (found.has(parent) && !found.has(pid)) {
        found.add(pid);
        grew = true;
      }
  }
  return [...found];
}

/** The guard that started a trusted process, or the process itself where it has none. */
export function guardOf(pid: number): number {
  const parent = processes().find((one) => one.pid === pid)?.parent ?? 0;
  try {
    const isGuard = readFileSync(`/proc/${parent}/cmdline`, 'utf8').includes('guard.mjs');
    return isGuard ? parent : pid;
  } catch {
    return pid;
  }
}

/** A trusted process with its guard, and all that the two started: wardens are the guard's. */
export const familyOf = (pids: readonly number[]): number[] => treeOf(pids.map(guardOf));

export const alive = (pid: number): boolean => processes().some((p) => p.pid === pid);

/** Every process of a running cluster, engines and what stands between included. */
export const processesOf = (cluster: LocalCluster): number[] =>
  familyOf([cluster.coordinator.pid, ...cluster.nodes.map((node) => node.pid)]);

/** All of these processes are gone within the time, and so is the folder. */
export async function expectNothingLeft(
  pids: readonly number[],
  folder: string,
  timeoutMs = 20_000,
): Promise<void> {
  await expect
    .poll(() => pids.filter((pid) => alive(pid)), { timeout: timeoutMs, interval: 50 })
    .toEqual([]);
  expect(existsSync(folder)).toBe(false);
}

/** Listening sockets that a process holds. */
export function listeningSockets(pid: number): number {
  const inodes = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const match = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`));
    if (match?.[1] !== undefined) inodes.add(match[1]);
  }
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === '0A' && inodes.has(fields[9] ?? '')).length;
}
