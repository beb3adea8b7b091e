/** Collects every fact about this machine. Nothing here judges, and what can't be read is left out, not guessed. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { freemem, totalmem } from 'node:os';
import path from 'node:path';
import { MINIKEEP_VERSION, toMinikeepError } from '@minikeep/protocol';
import { darwinFacts } from './darwin-facts.ts';
import { tryEngine, tryModelCheck, type TrialOptions } from './engine-trial.ts';
import type { MachineFacts, ModelCheckFacts, SystemFacts } from './facts.ts';
import { linuxFacts } from './linux-facts.ts';
import { MACHINE, type Probe } from './probe.ts';

export interface CollectOptions extends Omit<TrialOptions, 'model'> {
  /** Undefined: this installation has no model of its own. */
  readonly model: string | undefined;
  readonly nodePinned: string;
  readonly memoryAvailableBytes: () => Promise<number>;
  readonly folders: readonly { readonly what: string; readonly path: string }[];
  readonly ports: readonly number[];
  readonly modelCheck: boolean;
  readonly probe?: Probe;
  readonly onProgress: (what: string) => void;
}

/** Rejects with the signal's reason, with nothing else. */
export async function collectFacts(options: CollectOptions): Promise<MachineFacts> {
  const { onProgress, signal } = options;
  const probe = options.probe ?? MACHINE;
  onProgress('looking at the files');
  const installation = await installationFacts(path.resolve(options.programs, '..'), signal);
  onProgress('asking the system');
  const ours = [
    process.execPath,
    path.join(options.programs, 'koffi.node'),
    path.join(options.programs, 'engine.mjs'),
  ];
  const system: SystemFacts =
    process.platform === 'darwin' ? await darwinFacts(probe, ours) : await linuxFacts(probe);
  onProgress('trying the sandbox');
  const sandbox = await options.platform.support().catch((thrown: unknown) => {
    const { message, next } = toMinikeepError(thrown);
    return { ok: false, mechanism: 'none', missing: [{ what: message, next }] };
  });
  onProgress('starting an engine');
  const { model } = options;
  const engine =
    model === undefined
      ? ({
          started: false,
          why: 'this installation has no model to try',
          next: 'Install again from a bundle, or build: npm run build',
        } as const)
      : await tryEngine({ ...options, model });
  let check: ModelCheckFacts = { status: 'not_run', why: 'it was not asked for' };
  if (options.modelCheck && model !== undefined) {
    onProgress('comparing a split model with the whole');
    check = await tryModelCheck({ ...options, model }, engine);
  }
  return {
    platform: process.platform,
    minikeep_version: MINIKEEP_VERSION,
    node_version: process.versions.node,
    node_pinned: options.nodePinned,
    is_root: process.geteuid?.() === 0,
    is_service: isService(process.env, process.ppid),
    now_seconds: Date.now() / 1000,
    memory_bytes: totalmem(),
    memory_available_bytes: await options.memoryAvailableBytes().catch(() => freemem()),
    installation,
    disks: await diskFacts(options.folders),
    ports: await portFacts(options.ports),
    system,
    sandbox: { ok: sandbox.ok, mechanism: sandbox.mechanism, missing: sandbox.missing },
    engine,
    model_check: check,
  };
}

/** systemd names the invocation; launchd is process 1 on macOS and starts nothing of a person's directly. */
function isService(env: NodeJS.ProcessEnv, parent: number): boolean {
  return env['INVOCATION_ID'] !== undefined || (process.platform === 'darwin' && parent === 1);
}

const SUM = /^([0-9a-f]{64}) {2}(.+)$/;

/** What a bundle installed is compared with its list; a checkout has none. */
export async function installationFacts(
  folder: string,
  signal: AbortSignal,
): Promise<MachineFacts['installation']> {
  const list = path.join(folder, 'SHA256SUMS');
  if (!existsSync(list)) return { folder, bundled: false, damaged: [] };
  const damaged: string[] = [];
  for (const line of readFileSync(list, 'utf8').trim().split('\n')) {
    signal.throwIfAborted();
    const [, digest, name = ''] = SUM.exec(line) ?? [];
    const file = path.join(folder, name);
    if (digest === undefined || !file.startsWith(`${folder}${path.sep}`))
      damaged.push('SHA256SUMS');
    else if ((await digestOf(file)) !== digest) damaged.push(name);
  }
  return { folder, bundled: true, damaged };
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const piece of createReadStream(file)) hash.update(piece as Buffer);
  } catch {
    return '';
  }
  return hash.digest('hex');
}

async function diskFacts(folders: CollectOptions['folders']): Promise<MachineFacts['disks']> {
  const disks: { what: string; path: string; free_bytes: number }[] = [];
  for (const folder of folders) {
    let at = folder.path;
    while (!existsSync(at) && at !== path.dirname(at)) at = path.dirname(at);
    const facts = await statfs(at).catch(() => undefined);
    if (facts !== undefined) disks.push({ ...folder, free_bytes: facts.bavail * facts.bsize });
  }
  return disks;
}

async function portFacts(ports: readonly number[]): Promise<MachineFacts['ports']> {
  return Promise.all(ports.map(async (port) => ({ port, free: await isFree(port) })));
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(false));
    server.listen({ port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
