// What a bench compares: the whole model in one engine, the same split in one process, and nodes. Each decodes N tokens
// of a new sequence and says how long each took; the prompt is one token, so that every step is one row.
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { mkdtemp, open } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { startLocalCluster } from '../../packages/cli/src/local-cluster.ts';
import {
  engineLibraries,
  Pipeline,
  stageFiles,
  wholeFile,
} from '../../packages/engine/src/index.ts';
import { WindowWriter } from '../../packages/gguf/src/index.ts';
import { DEFAULT_SAMPLING } from '../../packages/protocol/src/index.ts';
import { evenCuts } from '../../packages/testkit/src/index.ts';
import { ROOT } from '../setup.mjs';
import { atEnd } from './ending.mjs';
import { benchProgram } from './program.mjs';

const DIST = path.join(ROOT, 'dist');
const TOKEN = 9;
const span = (position, count) => [
  { seq: 0, position, count, sample: true, logits: false, replay: false },
];
const sampling = new TextEncoder().encode(
  JSON.stringify({ ...DEFAULT_SAMPLING, temperature: 0, ignore_eog: true }),
);

/** Files of a model's stages, as even as can be, in a folder of their own; the whole is the file itself. */
export async function filesOf(model, stages, folder) {
  if (stages === 1) {
    const whole = await wholeFile({ model }, folder);
    return [{ ...whole, slice: await writtenAsSlices(whole.slice, folder) }];
  }
  const own = await mkdtemp(path.join(folder, `${stages}-stages-`));
  return stageFiles({ model }, evenCuts(model, stages), own);
}

/** A copy that lies in the kernel's cache as slices do: how a file was written changes how fast it is computed with. */
async function writtenAsSlices(file, folder) {
  const copy = path.join(await mkdtemp(path.join(folder, 'whole-')), 'whole.gguf');
  const handle = await open(copy, 'wx', 0o600);
  try {
    const writer = new WindowWriter(handle);
    let at = 0;
    for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 })) {
      await writer.write(piece, at);
      at += piece.byteLength;
    }
    await writer.flush();
  } finally {
    await handle.close();
  }
  return copy;
}

/** One engine process or several in a row, driven from here over their pipes. */
export async function engineLine(files, platform, context) {
  const line = await Pipeline.start(files, { platform, context });
  const step = (ops, position, count) =>
    line.step({ ops, spans: span(position, count), tokens: new Int32Array(count).fill(TOKEN) });
  const close = () =>
    line.step({ ops: [{ op: 'close', seq: 0 }], spans: [], tokens: new Int32Array(0) });
  return {
    /** A new sequence: a prompt of one token, then `tokens` - 1 more; milliseconds of each. */
    async decode(tokens) {
      const milliseconds = [];
      await step([{ op: 'open', seq: 0, sampling }], 0, 1);
      for (let position = 1; position < tokens; position++) {
        const began = performance.now();
        await step([], position, 1);
        milliseconds.push(performance.now() - began);
      }
      await close();
      return { milliseconds };
    },
    /** Seconds of a prompt, in chunks one after the other. */
    async prompt(tokens, chunk) {
      const began = performance.now();
      for (let at = 0; at < tokens; at += chunk)
        await step(
          at === 0 ? [{ op: 'open', seq: 0, sampling }] : [],
          at,
          Math.min(chunk, tokens - at),
        );
      const seconds = (performance.now() - began) / 1000;
      await close();
      return seconds;
    },
    stop: () => line.stop(),
  };
}

/** All stages in one process: scripts/bench/stages-main.ts. */
export async function oneProcessLine(files, context) {
  const program = await benchProgram('scripts/bench/stages-main.ts');
  const child = spawn(process.execPath, ['--jitless', program, ...engineLibraries(DIST)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { GGML_NO_BACKTRACE: '1' },
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (message) => {
    child.stdin.write(`${JSON.stringify(message)}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error('the process with several stages ended');
    return JSON.parse(value);
  };
  await ask({ files, context });
  return {
    decode: (tokens) => ask({ tokens }),
    stop: async () => {
      child.stdin.end();
      await new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) resolve();
        else child.once('exit', resolve);
      });
    },
  };
}

const NAME = 'bench';

/** A cluster of real processes on this machine: coordinator, agents with mTLS between them, sandboxed engines. */
export async function nodesLine(model, stages, context, cacheFolder) {
  const cluster = await startLocalCluster({
    nodes: stages,
    distFolder: DIST,
    cacheFolder,
    onStarting: atEnd,
  });
  try {
    const request = {
      name: NAME,
      modelPath: model.path,
      cuts: evenCuts(model, stages),
      context: { nCtx: context.n_ctx, threads: context.threads, gpu: context.gpu },
    };
    for await (const { event } of cluster.operator.deploy(request))
      if (event?.$case === 'ready') break;
  } catch (thrown) {
    await cluster.stop();
    throw thrown;
  }
  async function generate(promptTokens, maxTokens) {
    const request = {
      deployment: NAME,
      maxTokens,
      sampling: { temperature: 0, ignoreEog: true, stop: [] },
      prompt: {
        $case: 'tokens',
        value: { ids: Array.from({ length: promptTokens }, () => TOKEN) },
      },
    };
    const times = [performance.now()];
    for await (const { event } of cluster.operator.generate(request)) {
      if (event?.$case === 'token') times.push(performance.now());
      if (event?.$case === 'done') return { times, done: event.value };
    }
    throw new Error('the answer ended before it was done');
  }
  return {
    cluster,
    async decode(tokens) {
      const { times, done } = await generate(1, tokens);
      const milliseconds = times.slice(2).map((time, i) => time - times[i + 1]);
      const stageMilliseconds = done.stages.map(
        ({ computeSeconds }) => (computeSeconds * 1000) / tokens,
      );
      // Mean of the times from token to token: the request's own way to the coordinator is no hop of a token.
      const apart = (times.at(-1) - times[1]) / (times.length - 2);
      const beyondComputing = apart - stageMilliseconds.reduce((sum, ms) => sum + ms, 0);
      return { milliseconds, beyondComputing, stageMilliseconds };
    },
    /** Seconds from the request to the first token. */
    async prompt(tokens) {
      const { times } = await generate(tokens, 1);
      return (times[1] - times[0]) / 1000;
    },
    stop: () => cluster.stop(),
  };
}
