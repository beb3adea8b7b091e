/** `model check`: real engines on real files, what it finds, what it refuses, and what it leaves behind. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sandboxPlatform, type Sandbox, type SandboxPlatform } from '@minikeep/containment';
import { checkModel, ModelCheck, singleSequence } from '@minikeep/engine';
import { allowedCuts, openModel, scalarKey } from '@minikeep/gguf';
import {
  directPlatform,
  needRoot,
  needSharedModel,
  onlyOn,
  randomModelFile,
  REPOSITORY,
  tamper,
} from '../src/index.ts';

const programs = path.join(REPOSITORY, 'dist');
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-check-test-'));
});
afterEach(() => {
  expect(readdirSync(folder).filter((name) => !name.endsWith('.gguf'))).toEqual([]);
  rmSync(folder, { recursive: true });
});

/** Knows every process that it started. */
function watched(inner = directPlatform()): { platform: SandboxPlatform; started: Sandbox[] } {
  const started: Sandbox[] = [];
  const platform: SandboxPlatform = {
    support: () => inner.support(),
    launch: async (spec) => {
      const sandbox = await inner.launch(spec);
      started.push(sandbox);
      return sandbox;
    },
  };
  return { platform, started };
}

const running = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

test('a trained model at every cut, in the sandbox', async (ctx) => {
  const model = await openModel(needSharedModel(ctx, 'stories260K.gguf'));
  const { platform, started } = watched(sandboxPlatform());
  const check = await ModelCheck.start({ model, platform, folder, programs });
  try {
    for (const cut of allowedCuts(model)) {
      const result = await check.compare([cut]);
      expect(result).toMatchObject({ identical: true, max_logit_difference: 0, cuts: [cut] });
      expect(result.tokens_compared).toBe(80);
      expect(result.max_logit).toBeGreaterThan(1);
    }
  } finally {
    await check.close();
  }
  expect(started).toHaveLength(1 + 2 * allowedCuts(model).length);
  expect(started.filter(({ pid }) => running(pid))).toEqual([]);
});

test('a quantised trained model in three stages', async (ctx) => {
  const model = await openModel(needSharedModel(ctx, 'SmolLM2-135M-Instruct.Q4_1.gguf'));
  const { platform } = watched();
  const result = await checkModel({ model, platform, folder, programs, cuts: [10, 20], tokens: 4 });
  expect(result).toMatchObject({ identical: true, max_logit_difference: 0, tokens_compared: 68 });
});

test('a model without a vocabulary', async () => {
  const model = await openModel(await randomModelFile('qwen2', { vocabulary: 'none', folder }));
  const { platform } = watched();
  const result = await checkModel({ model, platform, folder, programs, cuts: [12] });
  expect(result.identical).toBe(true);
});

test('a slice that computes something else is found', async () => {
  const model = await openModel(await randomModelFile('llama', { folder }));
  const { platform } = watched();
  const onSlice = async (plan: { stage: number }, file: string): Promise<void> => {
    const wrong = scalarKey('llama.rope.freq_base', 'float32', 500_001);
    if (plan.stage === 1) await tamper(file, { keys: [wrong] });
  };
  const result = await checkModel({ model, platform, folder, programs, cuts: [8], onSlice });
  expect(result.identical).toBe(false);
  expect(result.max_logit_difference).toBeGreaterThan(0);
});

test('a refused cut and an unknown architecture are refused before any process starts', async () => {
  const { platform, started } = watched();
  const model = await openModel(await randomModelFile('gpt-oss', { folder }));
  const options = { platform, folder, programs, tokens: 2 };
  await expect(checkModel({ ...options, model, cuts: [3] })).rejects.toMatchObject({
    code: 'slice.cut_refused',
  });
  await expect(
    checkModel({ ...options, model: { ...model, architecture: 'mamba' }, cuts: [2] }),
  ).rejects.toMatchObject({ code: 'gguf.architecture_unsupported' });
  await expect(checkModel({ ...options, model, cuts: [2], promptTokens: 1 })).rejects.toMatchObject(
    {
      code: 'check.tokens',
    },
  );
  expect(started).toEqual([]);
});

test('a full disk', async (ctx) => {
  needRoot(ctx);
  onlyOn(ctx, 'linux');
  const model = await openModel(await randomModelFile('llama', { folder }));
  const small = mkdtempSync(path.join(tmpdir(), 'minikeep-small-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'pipe' });
  } catch {
    rmSync(small, { recursive: true });
    ctx.skip('not here: this container may not mount');
  }
  try {
    const { platform } = watched();
    await expect(
      checkModel({ model, platform, folder: small, programs, cuts: [8], tokens: 1 }),
    ).rejects.toMatchObject({ code: 'check.disk_full' });
    expect(readdirSync(small)).toEqual([]);
  } finally {
    execFileSync('umount', [small]);
    rmSync(small, { recursive: true });
  }
});

test('an engine that dies, and an abort: one error, no process left', async () => {
  const model = await openModel(await randomModelFile('llama', { layers: 126, folder }));
  const { platform, started } = watched();
  const check = await ModelCheck.start({ model, platform, folder, programs });
  try {
    const dying = check.compare([60]).catch((error: unknown) => error);
    while (started.length < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    await started[2]?.kill('killed by the test');
    expect(await dying).toMatchObject({ code: 'engine.gone' });
  } finally {
    await check.close();
  }
  const stop = new AbortController();
  const aborted = checkModel({
    model,
    platform,
    folder,
    programs,
    cuts: [60],
    signal: stop.signal,
  }).catch((error: unknown) => error);
  while (started.length < 4) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  expect(await aborted).toMatchObject({ name: 'AbortError' });
  for (const sandbox of started) await sandbox.exited;
});

test('a check that ends between two steps keeps no file open', async (ctx) => {
  onlyOn(ctx, 'linux');
  const model = await openModel(await randomModelFile('llama', { layers: 16, folder }));
  const stop = new AbortController();
  const script = (vocabSize: number): ReturnType<typeof singleSequence> => {
    stop.abort();
    return singleSequence(vocabSize, { promptTokens: 8, tokens: 1, chunk: 8 });
  };
  const platform = directPlatform();
  await expect(
    ModelCheck.start({ model, platform, folder, programs, script, signal: stop.signal }),
  ).rejects.toMatchObject({ name: 'AbortError' });
  const open = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  expect(open.filter((file) => file.startsWith(folder))).toEqual([]);
});
