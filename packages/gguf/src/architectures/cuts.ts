/** Where a model may be cut, and why not elsewhere: asked by the planner, and enforced before any slice is made. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { Model } from '../types.ts';
import type { ArchitectureRow } from './row.ts';
import { shapeOf } from './shape.ts';
import { ARCHITECTURES } from './table.ts';
import { anySlides, periodFor } from './windows.ts';

/** The model's row; throws `gguf.architecture_unsupported`, naming all that are supported. */
export function architectureOf(model: Model): ArchitectureRow {
  const row = ARCHITECTURES.get(model.architecture);
  if (row !== undefined) return row;
  const list = [...ARCHITECTURES.keys()].join(', ');
  throw new MinikeepError(
    'gguf.architecture_unsupported',
    `minikeep can’t split the architecture '${model.architecture}'; it can split: ${list}`,
    {
      next: 'Use a model of one of these architectures; `minikeep model show` names a file’s architecture.',
      details: { architecture: model.architecture, supported: list },
    },
  );
}

/** Layers that take part in a split (MTP blocks left out). */
export function layersToCut(model: Model): number {
  architectureOf(model);
  return shapeOf(model).layers;
}

/** The window's period in the whole model, or undefined when no layer slides. */
export function windowPeriodOf(model: Model): number | undefined {
  const { window } = architectureOf(model);
  const shape = shapeOf(model);
  if (window === undefined || (window.noneSlides === 'window_zero' && (shape.window ?? 0) === 0))
    return undefined;
  return shape.windowPeriod ?? window.defaultPeriod;
}

/** Why layers first <= i < end of this model can't be a slice, in one sentence, or undefined if they can. */
export function rangeRefusal(model: Model, first: number, end: number): string | undefined {
  const row = architectureOf(model);
  const shape = shapeOf(model);
  const { layers } = shape;
  if (
    !Number.isInteger(first) ||
    !Number.isInteger(end) ||
    first < 0 ||
    end > layers ||
    first >= end
  )
    return `layers ${first} to ${end} are not a range of the model’s ${layers}`;
  // The whole model is computed as it is: nothing has to be kept in step.
  if (first === 0 && end === layers) return undefined;
  if (row.startMultiple !== undefined && first % row.startMultiple !== 0)
    return `a slice of ${row.name} has to start at a multiple of ${row.startMultiple}, not at layer ${first}`;
  const scale = row.attentionScale;
  if (scale !== undefined && end - first === scale.layers)
    return `llama.cpp changes the attention scale of ${row.name} at exactly ${scale.layers} layers`;
  return windowRefusal(model, row, first, end) ?? row.refuse?.(shape, first, end);
}

function windowRefusal(
  model: Model,
  row: ArchitectureRow,
  first: number,
  end: number,
): string | undefined {
  const period = windowPeriodOf(model);
  if (period === undefined || row.window === undefined) return undefined;
  if (row.window.noneSlides === 'refuse' && !anySlides(first, end, period))
    return `layers ${first} to ${end} of ${row.name} hold no layer with a sliding window, which llama.cpp aborts on`;
  if (periodFor(first, end, period) === undefined)
    return `layers ${first} to ${end} break ${row.name}’s pattern of sliding windows (cut at multiples of ${period})`;
  return undefined;
}

/**
 * The boundaries c at which the model may be cut in two. For more stages ask `rangeRefusal` for each range: some
 * lengths are refused wherever they lie, so a boundary can be good in one division and not in another.
 */
export function allowedCuts(model: Model): number[] {
  const layers = layersToCut(model);
  const cuts: number[] = [];
  for (let c = 1; c < layers; c++)
    if (rangeRefusal(model, 0, c) === undefined && rangeRefusal(model, c, layers) === undefined)
      cuts.push(c);
  return cuts;
}

/** The ranges between ascending cuts; throws `slice.cut_refused` with the reason if one can't be a slice. */
export function checkCuts(model: Model, cuts: readonly number[]): void {
  rangesOf(model, cuts);
}

/** As `checkCuts`, returning the ranges. */
export function rangesOf(model: Model, cuts: readonly number[]): (readonly [number, number])[] {
  const layers = layersToCut(model);
  const bounds = [0, ...cuts, layers];
  const ranges: (readonly [number, number])[] = [];
  for (let i = 1; i < bounds.length; i++) {
    const [first, end] = [bounds[i - 1] as number, bounds[i] as number];
    if (!Number.isInteger(end) || end <= first || end > layers)
      throw refused(model, cuts, `the cuts have to rise, within 1 to ${layers - 1}`);
    const why = rangeRefusal(model, first, end);
    if (why !== undefined) throw refused(model, cuts, why);
    ranges.push([first, end]);
  }
  return ranges;
}

function refused(model: Model, cuts: readonly number[], why: string): MinikeepError {
  const allowed = allowedCuts(model);
  const hint =
    allowed.length === 0
      ? 'This model can’t be split: run it on one node.'
      : `Cut it in two at one of: ${summarise(allowed)}.`;
  return new MinikeepError(
    'slice.cut_refused',
    `cutting at ${cuts.join(', ')} is refused: ${why}`,
    {
      next: hint,
      exitCode: EXIT.failed,
      details: {
        architecture: model.architecture,
        cuts: cuts.join(','),
        allowed: allowed.join(','),
      },
    },
  );
}

/** [1,2,3,5] → '1-3, 5' */
export function summarise(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length;) {
    let j = i;
    while (numbers[j + 1] === (numbers[j] as number) + 1) j++;
    parts.push(i === j ? `${numbers[i]}` : `${numbers[i]}-${numbers[j]}`);
    i = j + 1;
  }
  return parts.join(', ');
}
