/**
 * The bench's base for a split: several stages in one process, without pipes, sandbox or network between them.
 * Bundled by the bench, run like an engine (--jitless). stdin: one JSON line with what to load, then lines
 * `{"tokens":N}`; stdout: `{"ready":true}`, then `{"milliseconds":[…]}`, one figure a token.
 */
import { createInterface } from 'node:readline';
import { DEFAULT_SAMPLING } from '../../packages/protocol/src/index.ts';
import type { ContextSettings, StageFile } from '../../packages/engine/src/index.ts';
import { StagesInProcess } from '../../packages/engine/src/in-process.ts';

const TOKEN = 9;
const sampling = new TextEncoder().encode(
  JSON.stringify({ ...DEFAULT_SAMPLING, temperature: 0, ignore_eog: true }),
);
let stages: StagesInProcess | undefined;

const step = (position: number): unknown =>
  stages?.step({
    ops: position === 0 ? [{ op: 'open', seq: 0, sampling }] : [],
    spans: [{ seq: 0, position, count: 1, sample: true, logits: false, replay: false }],
    tokens: Int32Array.of(TOKEN),
  });

const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  if (stages === undefined) {
    const { files, context } = JSON.parse(line) as { files: StageFile[]; context: ContextSettings };
    stages = await StagesInProcess.start(files, context, process.argv.slice(2));
    say({ ready: true });
    continue;
  }
  const { tokens } = JSON.parse(line) as { tokens: number };
  const milliseconds: number[] = [];
  step(0);
  for (let position = 1; position < tokens; position++) {
    const began = performance.now();
    step(position);
    milliseconds.push(performance.now() - began);
  }
  stages.step({ ops: [{ op: 'close', seq: 0 }], spans: [], tokens: new Int32Array(0) });
  say({ milliseconds });
}
