/**
 * The bench's base for a split: several stages in one process, without pipes, sandbox or network between them.
 * Bundled by the bench, run like an engine (--jitless). stdin: one JSON line with what to load, then lines
 * `{"tokens":N}`; stdout: `{"ready":true}`, then `{"milliseconds":[…]}`, one figure a token.
 */
import { createInterface } from 'node:readline';
import { DEFAULT_SAMPLING, ROWS, type StepFrame } from '../../packages/protocol/src/index.ts';
import type { LoadStage } from '../../packages/engine/src/index.ts';
import { openBinding } from '../../packages/engine/src/native/binding.ts';
import { chooseLibraries } from '../../packages/engine/src/native/libraries.ts';
import { Stage } from '../../packages/engine/src/stage/stage.ts';

const TOKEN = 9;
const binding = openBinding(chooseLibraries(process.argv.slice(2)));
const stages: Stage[] = [];
const sampling = new TextEncoder().encode(
  JSON.stringify({ ...DEFAULT_SAMPLING, temperature: 0, ignore_eog: true }),
);

function step(position: number): void {
  let frame: StepFrame = {
    kind: 'step',
    epoch: 1,
    step: position,
    ops: position === 0 ? [{ op: 'open', seq: 0, sampling }] : [],
    spans: [{ seq: 0, position, count: 1, sample: true, logits: false, replay: false }],
    tokens: Int32Array.of(TOKEN),
    timings: [],
    rows: { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() },
  };
  for (const stage of stages) {
    const next = stage.step(frame);
    if (next.kind === 'step') frame = next;
  }
}

function close(): void {
  const frame: StepFrame = {
    kind: 'step',
    epoch: 1,
    step: 0,
    ops: [{ op: 'close', seq: 0 }],
    spans: [],
    tokens: new Int32Array(0),
    timings: [],
    rows: { type: ROWS.none, nEmbd: 0, bytes: new Uint8Array() },
  };
  for (const [i, stage] of stages.entries())
    stage.step(i === 0 ? frame : { ...frame, rows: { ...frame.rows, type: ROWS.f32 } });
}

const say = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  if (stages.length === 0) {
    for (const load of JSON.parse(line) as LoadStage[]) {
      const stage = await Stage.open(binding, load, () => {});
      stage.warmUp();
      stages.push(stage);
    }
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
  close();
  say({ milliseconds });
}
