// npm run bench: what a split and the sandbox cost, on engines as they really run (own processes, sealed, two pipes).
// Method: all arrangements are loaded at once and take turns, token by token in rounds, so that the machine's noise
// falls on all alike; ratios compare medians of one run; the spread is the middle half. Not measured here: the network.
//   --model FILE (default: a random qwen2 of 0.5 B, Q8_0)   --rounds N   --tokens N a round   --threads N   --json
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline as pipe } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { sandboxPlatform } from '../packages/containment/src/index.ts';
import { Pipeline } from '../packages/engine/src/index.ts';
import { layersToCut, openModel, planSlices, sliceStream } from '../packages/gguf/src/index.ts';
import { DEFAULT_SAMPLING } from '../packages/protocol/src/index.ts';
import { benchModelFile, directPlatform } from '../packages/testkit/src/index.ts';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '16' },
    threads: { type: 'string', default: '2' },
    json: { type: 'boolean', default: false },
  },
});
const [rounds, tokens, threads] = [flags.rounds, flags.tokens, flags.threads].map(Number);
const context = { n_ctx: 1024, n_batch: 64, n_seq_max: 1, mode: 'exact', threads, gpu: false };
const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-bench-'));

/** Files of a model's stages; the whole is the file itself. */
async function stagesOf(model, file, count) {
  const layers = layersToCut(model);
  if (count === 1) return [{ slice: file, layers: [0, layers], first: true, last: true }];
  const cuts = Array.from({ length: count - 1 }, (_, i) => Math.round((layers * (i + 1)) / count));
  const plans = planSlices(model, cuts).filter((plan) => plan.kind !== 'text');
  const written = [];
  for (const plan of plans) {
    const slice = path.join(folder, `${count}-${plan.key}.gguf`);
    await pipe(Readable.from(sliceStream(model, plan)), createWriteStream(slice));
    written.push({
      kind: plan.kind,
      slice,
      layers: plan.layers,
      first: plan.first,
      last: plan.last,
    });
  }
  const embedding = written.find(({ kind }) => kind === 'embedding').slice;
  const stages = written.filter(({ kind }) => kind === 'stage');
  return stages.map(({ kind: _, ...stage }) => (stage.first ? { ...stage, embedding } : stage));
}

const span = (position, count) => [
  { seq: 0, position, count, sample: true, logits: false, replay: false },
];
const sampling = new TextEncoder().encode(
  JSON.stringify({ ...DEFAULT_SAMPLING, temperature: 0, ignore_eog: true }),
);
const quantile = (values, q) =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * q)];

const running = [];
try {
  const file = flags.model ? path.resolve(flags.model) : await benchModelFile();
  const model = await openModel(file);
  const arrangements = [
    ['whole', 1, sandboxPlatform()],
    ['whole, no sandbox', 1, directPlatform()],
    ...[2, 3, 4].map((count) => [`${count} stages`, count, sandboxPlatform()]),
  ];
  for (const [name, count, platform] of arrangements) {
    const files = await stagesOf(model, file, count);
    const started = performance.now();
    const line = await Pipeline.start(files, { platform, context });
    const entry = { name, line, position: 16, milliseconds: [] };
    running.push(entry);
    const ops = [{ op: 'open', seq: 0, sampling }];
    await line.step({ ops, spans: span(0, 16), tokens: new Int32Array(16).fill(7) });
    entry.firstTokenSeconds = (performance.now() - started) / 1000;
  }
  for (let round = 0; round < rounds; round++)
    for (const entry of running)
      for (let i = 0; i < tokens; i++) {
        const before = performance.now();
        await entry.line.step({
          ops: [],
          spans: span(entry.position++, 1),
          tokens: Int32Array.of(9),
        });
        entry.milliseconds.push(performance.now() - before);
      }
  const base = quantile(running[0].milliseconds, 0.5);
  const table = running.map(({ name, milliseconds, firstTokenSeconds }) => ({
    arrangement: name,
    median_milliseconds: quantile(milliseconds, 0.5),
    quarter_milliseconds: quantile(milliseconds, 0.25),
    three_quarter_milliseconds: quantile(milliseconds, 0.75),
    speed_of_whole: base / quantile(milliseconds, 0.5),
    start_to_first_token_seconds: firstTokenSeconds,
  }));
  if (flags.json)
    process.stdout.write(`${JSON.stringify({ model: path.basename(file), threads, table })}\n`);
  else {
    process.stdout.write(
      `${path.basename(file)}, ${threads} threads, one token a step, median of ${rounds * tokens}\n`,
    );
    for (const r of table)
      process.stdout.write(
        `${r.arrangement.padEnd(20)}${r.median_milliseconds.toFixed(2).padStart(9)} ms ` +
          `(${r.quarter_milliseconds.toFixed(2)} to ${r.three_quarter_milliseconds.toFixed(2)})  ` +
          `${r.speed_of_whole.toFixed(3)} of the whole; first token after ${r.start_to_first_token_seconds.toFixed(1)} s\n`,
      );
  }
} finally {
  await Promise.allSettled(running.map(({ line }) => line.stop()));
  rmSync(folder, { recursive: true, force: true });
}
