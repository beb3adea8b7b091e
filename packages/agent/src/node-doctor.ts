/**
 * The doctor on this node: what `minikeep doctor` finds, found by the process that starts this node's engines. The last
 * result is kept in the home, so that everybody can see whether this machine computes exactly.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pinnedNodeVersion } from '@minikeep/bundle/pins';
import type { SandboxPlatform } from '@minikeep/containment';
import { collectFacts, reportOf, type ModelCheckFacts } from '@minikeep/doctor';
import { MINIKEEP_VERSION, MinikeepError } from '@minikeep/protocol';
import type { DoctorResponse, ModelCheck } from '@minikeep/protocol/v1';
import { writeKeyFile } from '@minikeep/state';
import { z } from 'zod';
import type { AgentConfig } from './config.ts';
import { memoryAvailableBytes } from './machine.ts';
import { OneAtATime } from './one-at-a-time.ts';

/** As `minikeep doctor --home` writes it. */
const RESULT = 'doctor.json';
const EVENTS_MAX = 1_000;
const KEPT = z.object({
  checked_at_seconds: z.number(),
  facts: z.object({
    minikeep_version: z.string(),
    model_check: z.discriminatedUnion('status', [
      z.object({ status: z.literal('exact'), backend: z.string() }),
      z.object({ status: z.literal('differs'), backend: z.string(), by: z.number() }),
      z.object({ status: z.literal('not_run'), why: z.string() }),
    ]),
  }),
});

export interface NodeDoctor {
  /** Fails with `doctor.busy` while another run is under way. */
  run(modelCheck: boolean, signal: AbortSignal): AsyncIterable<DoctorResponse>;
  /** The last comparison of a split model with the whole, by this version of minikeep. */
  modelCheck(): Promise<ModelCheck | undefined>;
}

export function nodeDoctor(
  platform: SandboxPlatform,
  config: Pick<AgentConfig, 'node' | 'program_folder' | 'store'>,
  home: string | undefined,
): NodeDoctor {
  const runs = new OneAtATime<DoctorResponse>(
    EVENTS_MAX,
    () =>
      new MinikeepError('doctor.busy', `node ${config.node} is being looked at already`, {
        next: 'Wait for that to end, then try again.',
      }),
  );
  let last: ModelCheck | undefined;
  const examine = async (
    withModel: boolean,
    signal: AbortSignal,
    onProgress: (what: string) => void,
  ): Promise<{ document: object; check: ModelCheck }> => {
    const folder = await mkdtemp(path.join(tmpdir(), 'minikeep-doctor-'));
    try {
      const model = path.resolve(config.program_folder, '../models/keeper.gguf');
      const facts = await collectFacts({
        platform,
        programs: config.program_folder,
        model: existsSync(model) ? model : undefined,
        folder,
        nodePinned: pinnedNodeVersion(),
        memoryAvailableBytes: async () => memoryAvailableBytes(),
        folders: [
          ...(home === undefined ? [] : [{ what: 'the home', path: home }]),
          { what: 'slices', path: config.store.folder },
          { what: 'temporary files', path: tmpdir() },
        ],
        // This node listens on its own.
        ports: [],
        modelCheck: withModel,
        signal,
        onProgress,
      });
      return { document: reportOf(facts), check: message(facts.model_check, Date.now() / 1000) };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };
  return {
    run: (withModel, asked) =>
      runs.run(asked, async (push, signal) => {
        const { document, check } = await examine(withModel, signal, (what) =>
          push({ event: { $case: 'progress', value: what } }),
        );
        if (withModel) {
          last = check;
          const checked = { checked_at_seconds: check.checkedAtSeconds, ...document };
          if (home !== undefined) writeKeyFile(home, RESULT, `${JSON.stringify(checked)}\n`);
        }
        const documentJson = JSON.stringify(document);
        push({
          event: { $case: 'report', value: { node: config.node, documentJson, modelCheck: check } },
        });
      }),
    async modelCheck() {
      last ??= home === undefined ? undefined : await kept(path.join(home, RESULT));
      return last;
    },
  };
}

/** What another version found says nothing about this one. */
async function kept(file: string): Promise<ModelCheck | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const { facts, checked_at_seconds: at } = KEPT.parse(JSON.parse(text));
    return facts.minikeep_version === MINIKEEP_VERSION ? message(facts.model_check, at) : undefined;
  } catch {
    return undefined;
  }
}

function message(facts: ModelCheckFacts, checkedAtSeconds: number): ModelCheck {
  return {
    status: facts.status,
    by: facts.status === 'differs' ? facts.by : 0,
    backend: facts.status === 'not_run' ? '' : facts.backend,
    why: facts.status === 'not_run' ? facts.why : '',
    checkedAtSeconds,
  };
}
