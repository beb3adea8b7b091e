/**
 * Starts one sealed engine and lets it compute: what witness.test.ts traces from outside. Arguments: the stage to load
 * as JSON, the number of steps. Prints one JSON line.
 */
import { sandboxPlatform } from '@minikeep/containment';
import { decodeFrame, encodeFrame, type ResultFrame } from '@minikeep/protocol';
import { startEngine } from '../src/client/start-engine.ts';
import type { LoadStage } from '../src/messages.ts';
import { open, someTokens, stepFrame } from './line.ts';

const load = JSON.parse(process.argv[2] ?? '') as LoadStage;
const steps = Number(process.argv[3]);
let pid = 0;
const platform = sandboxPlatform();
const engine = await startEngine({
  platform: {
    support: () => platform.support(),
    launch: async (spec) => {
      const sandbox = await platform.launch(spec);
      pid = sandbox.pid;
      return sandbox;
    },
  },
  load,
});
const sealed_seconds = Date.now() / 1000;
const tokens: number[] = [];
let answer = Promise.withResolvers<ResultFrame>();
engine.onFrame((bytes) => answer.resolve(decodeFrame(bytes) as ResultFrame));
for (let step = 0, position = 0; step < steps; step++) {
  const prompt = step === 0 ? someTokens(20, 384) : tokens.slice(-1);
  const part = { seq: 1, tokens: prompt, position, sample: true };
  await engine.sendFrame(
    encodeFrame(stepFrame([part], step === 0 ? [open(1, { temperature: 0 })] : [])),
  );
  const result = await answer.promise;
  answer = Promise.withResolvers();
  tokens.push(result.outputs[0]?.token ?? -1);
  position += prompt.length;
}
const violations = engine.violations;
await engine.stop();
process.stdout.write(`${JSON.stringify({ pid, sealed_seconds, tokens, violations })}\n`);
