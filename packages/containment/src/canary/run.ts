/**
 * Runs the canary: in the very sandbox that engines get, tries the whole checklist, and says of each item whether it
 * was refused and reported. Items that end the process have a sandbox each; the others share one. A process that is
 * lost on the way costs one item, not the rest.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { guardClient } from '../guard/client.ts';
import type { SandboxPlatform, SandboxSupport } from '../sandbox.ts';
import { checklistFor } from './checklist.ts';
import { declaredFor } from './declared.ts';
import { inspectMacProcess, macGone, macParentOf } from './darwin-inspect.ts';
import { type Facts, fill } from './facts.ts';
import { inspectOrphan, inspectProcess, parentOf, watchCores } from './linux-inspect.ts';
import { LossyTries } from './lossy.ts';
import { isReported, judge, type Verdict, violationText } from './match.ts';
import { isFiltered, OuterFilter, probeOutside, type RefusedOutside } from './outside.ts';
import { Plant } from './plant.ts';
import { CanarySession, type SessionOptions } from './session.ts';
import { inspectStderr } from './stderr.ts';
import type {
  CanaryAttempt,
  CanaryInspection,
  CanaryItem,
  CanaryPhase,
  CanaryPlatform,
  CanaryReport,
  CanaryState,
} from './types.ts';

/** Sandboxes at a time: each start is three processes. */
const PARALLEL = 2;
/** Sandboxes that may be lost before the rest is given up. */
const LOST_MAX = 10;
const UNEXPLAINED_MAX = 50;

export interface CanaryOptions {
  readonly signal?: AbortSignal;
  /** Called as each attempt is judged, and at the end for each inspection. */
  readonly onAttempt?: (attempt: CanaryAttempt) => void;
  readonly onInspection?: (inspection: CanaryInspection) => void;
  /** Folder of canary.mjs; where this program itself lies unless given. */
  readonly programs?: string;
  /** Where this node keeps slices. */
  readonly cache?: string;
  /** Another checklist; for tests. */
  readonly items?: readonly CanaryItem[];
  /** Files to hand over besides the canary's own; for tests that make a hole. */
  readonly files?: (facts: Facts) => readonly string[];
}

/**
 * Rejects only when the canary can't run at all: `canary.not_built`, `canary.unsupported`, `canary.fault`,
 * `canary.timeout`, what the sandbox refuses, or the signal's reason. A hole is a report, not a rejection.
 */
export async function runCanary(
  platform: SandboxPlatform,
  options: CanaryOptions = {},
): Promise<CanaryReport> {
  const support = await platform.support();
  if (!support.ok) throw unsupported(support);
  const name: CanaryPlatform = support.platform.startsWith('darwin') ? 'darwin' : 'linux';
  const plant = await Plant.lay({
    platform: name,
    ...(options.cache === undefined ? {} : { cache: options.cache }),
  });
  try {
    return await new Run(platform, support, name, plant, options).report();
  } finally {
    await plant.clear();
  }
}

/** dist/canary.mjs: beside this program, or in the repository. */
function canaryEntry(programs?: string): string {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const beside = path.join(programs ?? here, 'canary.mjs');
  const entry =
    programs !== undefined || existsSync(beside)
      ? beside
      : path.resolve(here, '../../../../dist/canary.mjs');
  if (!existsSync(entry))
    throw new MinikeepError('canary.not_built', `${entry} is missing`, {
      next: 'Run `npm run build`.',
    });
  return entry;
}

class Run {
  readonly #platform: SandboxPlatform;
  readonly #support: SandboxSupport;
  readonly #name: CanaryPlatform;
  readonly #plant: Plant;
  readonly #options: CanaryOptions;
  readonly #session: SessionOptions;
  readonly #items: readonly CanaryItem[];
  readonly #attempts = new Map<string, CanaryAttempt>();
  readonly #inspections: CanaryInspection[] = [];
  readonly #instances: string[] = [];
  readonly #unexplained: string[] = [];
  readonly #lossy: LossyTries;
  #outer = OuterFilter.NONE;
  /** Why the monitor of one of the sandboxes may have missed something; empty while all saw. */
  #blind = '';

  constructor(
    platform: SandboxPlatform,
    support: SandboxSupport,
    name: CanaryPlatform,
    plant: Plant,
    options: CanaryOptions,
  ) {
    this.#platform = platform;
    this.#support = support;
    this.#name = name;
    this.#plant = plant;
    this.#options = options;
    this.#items = options.items ?? checklistFor(name);
    this.#lossy = new LossyTries((ms) => pause(ms, options.signal));
    this.#session = {
      platform,
      entry: canaryEntry(options.programs),
      files: [plant.given, ...(options.files?.(plant.facts) ?? [])],
      marks: name === 'linux',
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    };
  }

  async report(): Promise<CanaryReport> {
    const started = performance.now();
    const started_at_seconds = Date.now() / 1000;
    this.#outer = new OuterFilter(await this.#refusedOutside());
    const lookForCores = this.#name === 'linux' ? watchCores() : undefined;
    const shared = this.#items.filter((item) => item.own === undefined);
    const jobs = [
      () => this.#shared(shared),
      ...this.#items
        .filter((item) => item.own !== undefined)
        .flatMap((item) => item.phases.map((phase) => () => this.#own(item, phase))),
      ...(this.#options.items === undefined ? this.#looks() : []),
    ];
    await inParallel(jobs, PARALLEL);
    if (lookForCores !== undefined) this.#inspected(lookForCores());
    for (const inspection of this.#plant.inspect()) this.#inspected(inspection);
    const attempts = this.#items.flatMap((item) =>
      item.phases.flatMap((phase) => this.#attempts.get(nameOf(item, phase)) ?? []),
    );
    const state = stateOf(attempts, this.#inspections, this.#blind);
    return {
      ok: state === 'passed',
      state,
      platform: this.#name,
      mechanism: this.#support.mechanism + (this.#blind === '' ? '' : `; blind: ${this.#blind}`),
      started_at_seconds,
      duration_seconds: (performance.now() - started) / 1000, // a clock that is set meanwhile changes nothing
      instances: this.#instances,
      attempts,
      inspections: this.#inspections,
      declared: declaredFor(this.#name),
      unexplained: this.#unexplained,
    };
  }

  /** Under a guard this process has a filter of minikeep's own; a warden has only what is around all of it. */
  async #refusedOutside(): Promise<readonly RefusedOutside[]> {
    if (this.#name !== 'linux') return [];
    if (guardClient() !== undefined) return (await this.#platform.refusedOutside?.()) ?? [];
    return isFiltered() ? probeOutside(this.#session.entry, this.#items) : [];
  }

  /** All items that may share a sandbox: first what is tried while it loads, then what is tried once it is sealed. */
  async #shared(items: readonly CanaryItem[]): Promise<void> {
    const todo = (['start', 'sealed'] as const).flatMap((phase) =>
      items.filter((item) => item.phases.includes(phase)).map((item) => ({ item, phase })),
    );
    let session: CanarySession | undefined;
    let phase: CanaryPhase = 'start';
    let lost = 0;
    try {
      for (const next of todo) {
        if (session === undefined) {
          session = await this.#start(this.#session);
          phase = 'start';
        }
        if (phase !== next.phase) {
          await session.seal();
          phase = next.phase;
        }
        await this.#try(session, next.item, next.phase, false);
        if (session.exit === undefined) continue;
        this.#leave(session);
        session = undefined;
        if (++lost >= LOST_MAX) return;
      }
    } finally {
      if (session !== undefined) {
        await session.finish();
        this.#leave(session);
      }
    }
  }

  async #own(item: CanaryItem, phase: CanaryPhase): Promise<void> {
    const limits = item.own?.limits;
    const session = await this.#start({
      ...this.#session,
      ...(limits === undefined ? {} : { limits }),
    });
    try {
      if (phase === 'sealed') await session.seal();
      await this.#try(session, item, phase, true);
    } finally {
      await session.kill('the canary is done');
      this.#leave(session);
    }
  }

  /** What is seen from outside and needs a sandbox of its own. */
  #looks(): (() => Promise<void>)[] {
    const withSession =
      (look: (session: CanarySession) => Promise<CanaryInspection>) => async () => {
        const session = await this.#start({
          ...this.#session,
          limits: { reports_per_kind_max: 5 },
        });
        try {
          this.#inspected(await look(session));
        } finally {
          await session.kill('the canary is done');
          this.#leave(session);
        }
      };
    const looks = [withSession((session) => inspectStderr(session, this.#plant.facts))];
    const kinship =
      this.#name === 'linux'
        ? undefined
        : { parentOf: (pid: number) => macParentOf(pid), gone: macGone };
    looks.push(withSession((session) => inspectOrphan(session.sandbox, kinship)));
    return looks;
  }

  async #start(options: SessionOptions): Promise<CanarySession> {
    const session = await CanarySession.start(options);
    this.#instances.push(session.sandbox.instance);
    return session;
  }

  #leave(session: CanarySession): void {
    this.#blind ||= session.sandbox.blind?.() ?? '';
    for (const violation of session.unexplained) {
      const text = violationText(violation);
      if (this.#unexplained.length < UNEXPLAINED_MAX && !this.#unexplained.includes(text))
        this.#unexplained.push(text);
    }
  }

  async #try(
    session: CanarySession,
    item: CanaryItem,
    phase: CanaryPhase,
    last: boolean,
  ): Promise<void> {
    const facts = this.#factsOf(session);
    if (!this.#inspections.some((i) => i.name === 'process-rights') && !last) {
      const inspect = this.#name === 'linux' ? inspectProcess : inspectMacProcess;
      for (const inspection of inspect(session.sandbox.pid)) this.#inspected(inspection);
    }
    const once = async (): Promise<Verdict> => {
      const evidence = await session.attempt(item, facts, {
        last,
        enough: (violations) => isReported(item, violations, facts),
      });
      return judge(item, evidence, facts, this.#outer);
    };
    const lossy = this.#name === 'darwin' && item.unreportable === undefined && !last;
    const { outcome: verdict, tries } = lossy
      ? await this.#lossy.run(once, () => session.exit !== undefined)
      : { outcome: await once(), tries: 1 };
    if (item.unreportable !== undefined) {
      this.#inspected({
        name: item.id,
        title: item.title,
        ok: verdict.refused,
        finding: `${verdict.fault || verdict.observed} (not reported: ${item.unreportable})`,
      });
      return;
    }
    const attempt: CanaryAttempt = {
      name: nameOf(item, phase),
      group: item.group,
      title: titleOf(item, phase),
      phase,
      target: fill(item.target, facts),
      ...verdict,
      tries,
    };
    this.#attempts.set(attempt.name, attempt);
    this.#options.onAttempt?.(attempt);
  }

  #factsOf(session: CanarySession): Facts {
    const { pid } = session.sandbox;
    const parent = this.#name === 'linux' ? parentOf(pid) : macParentOf(pid);
    const warden = parent ?? process.pid;
    return { ...this.#plant.facts, self: pid, warden };
  }

  #inspected(inspection: CanaryInspection): void {
    this.#inspections.push(inspection);
    this.#options.onInspection?.(inspection);
  }
}

/** One name for each attempt: an item that is tried in both phases says which. */
const nameOf = (item: CanaryItem, phase: CanaryPhase): string =>
  phase === 'start' && item.phases.length > 1 ? `${item.id}-start` : item.id;

const titleOf = (item: CanaryItem, phase: CanaryPhase): string =>
  phase === 'start' && item.phases.length > 1 ? `${item.title}, while it loads` : item.title;

function stateOf(
  attempts: readonly CanaryAttempt[],
  inspections: readonly CanaryInspection[],
  blind: string,
): CanaryState {
  if (attempts.length === 0 || attempts.some((a) => !a.refused) || inspections.some((i) => !i.ok))
    return 'failed';
  return attempts.every((a) => a.reported || a.refused_outside) && blind === ''
    ? 'passed'
    : 'blind';
}

function unsupported(support: SandboxSupport): MinikeepError {
  const [first] = support.missing;
  return new MinikeepError(
    'canary.unsupported',
    `there is no sandbox to test on this machine: ${first?.what ?? support.mechanism}`,
    { next: first?.next ?? 'Run `minikeep doctor`.' },
  );
}

/** The first rejection stops what has not begun, and is passed on when the rest has ended. */
async function inParallel(jobs: readonly (() => Promise<void>)[], width: number): Promise<void> {
  const waiting = [...jobs];
  const faults: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      try {
        await job();
      } catch (fault) {
        faults.push(fault);
        waiting.length = 0;
      }
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  if (faults.length > 0) throw toMinikeepError(faults[0]);
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        reject(toMinikeepError(signal.reason));
      },
      { once: true },
    );
  });
}
