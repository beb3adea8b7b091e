/** The planner's bytes are those of the slices that will really be made. */
import { openModel, planSlices } from '@minikeep/gguf';
import { needSharedModel } from '@minikeep/testkit';
import { expect, it } from 'vitest';
import { modelFacts, stageMemory, type PlanOptions } from '../src/index.ts';

const OPTIONS: PlanOptions = { contextTokens: 2048, parallel: 2, batchRows: 512, mode: 'exact' };
/** A middle slice carries a 32-row vocabulary of zeros that the model does not have. */
const FILLER_ROWS = 32;

for (const file of ['SmolLM2-135M-Instruct.Q4_1.gguf', 'stories260K.gguf'])
  it(`counts the weights of each stage as the slicer does: ${file}`, async (ctx) => {
    const model = await openModel(needSharedModel(ctx, file));
    const facts = modelFacts(model);
    const cuts = [1, Math.floor(facts.layers.length / 2), facts.layers.length - 1];
    const slices = planSlices(model, cuts);
    const embedding = slices.find((slice) => slice.kind === 'embedding')?.tensorBytes ?? 0;
    for (const slice of slices.filter((s) => s.kind === 'stage')) {
      const [first, end] = slice.layers;
      const predicted = stageMemory(facts, first, end, OPTIONS).weights;
      const made = slice.tensorBytes + (slice.first ? embedding : 0);
      expect(Math.abs(predicted - made)).toBeLessThan(FILLER_ROWS * facts.embeddingLength * 8);
    }
  });
