/** Which cuts a model is tried at: all single ones, even divisions into several stages, and stages of one layer. */
import { allowedCuts, layersToCut, rangeRefusal, type Model } from '@minikeep/gguf';

/** Cuts into that many stages, the longest as short as the rules allow; undefined if the rules allow none. */
export function evenCuts(
  model: Model,
  stages: number,
  from = 0,
  to = layersToCut(model),
): readonly number[] | undefined {
  // best[k][e]: the shortest longest stage of k stages that end at e, and where the last of them starts.
  let best = new Map<number, { longest: number; cuts: readonly number[] }>([
    [from, { longest: 0, cuts: [] }],
  ]);
  for (let k = 0; k < stages; k++) {
    const next: typeof best = new Map();
    for (const [start, { longest, cuts }] of best)
      for (let end = start + 1; end <= to; end++) {
        const longer = Math.max(longest, end - start);
        if (longer >= (next.get(end)?.longest ?? Infinity)) continue;
        if (rangeRefusal(model, start, end) === undefined)
          next.set(end, { longest: longer, cuts: [...cuts, end] });
      }
    best = next;
  }
  return best.get(to)?.cuts.slice(0, -1);
}

/**
 * Cuts with a stage of a single layer, with neighbours on both sides where three stages are enough for that, else in
 * as few stages as possible; undefined if the rules allow none.
 */
export function oneLayerCuts(model: Model): readonly number[] | undefined {
  const layers = layersToCut(model);
  let found: readonly number[] | undefined;
  const middle = Math.floor(layers / 2);
  // From the middle outwards: a stage with neighbours on both sides shows most.
  const order = Array.from({ length: layers }, (_, i) => i).toSorted(
    (a, b) => Math.abs(a - middle) - Math.abs(b - middle),
  );
  for (const layer of order) {
    if (rangeRefusal(model, layer, layer + 1) !== undefined) continue;
    const before = shortest(model, 0, layer);
    const after = shortest(model, layer + 1, layers);
    if (before === undefined || after === undefined) continue;
    const cuts = [...before, layer, layer + 1, ...after].filter((c) => c > 0 && c < layers);
    if (cuts.length === 2) return cuts;
    if (found === undefined || cuts.length < found.length) found = cuts;
  }
  return found;
}

/** Inner cuts of a range in at most three stages. */
function shortest(model: Model, from: number, to: number): readonly number[] | undefined {
  if (from === to) return [];
  for (let stages = 1; stages <= 3; stages++) {
    const cuts = evenCuts(model, stages, from, to);
    if (cuts !== undefined) return cuts;
  }
  return undefined;
}

const defined = <T>(value: T | undefined): value is T => value !== undefined;

/** Three kinds of cuts for CI: two stages, three stages, and a stage of one layer (where there is none: four stages). */
export function threeDivisions(model: Model): readonly (readonly number[])[] {
  return [evenCuts(model, 2), evenCuts(model, 3), oneLayerCuts(model) ?? evenCuts(model, 4)].filter(
    defined,
  );
}

/** Everything for the full suite: each allowed single cut, or only the first, middle and last, and the divisions. */
export function allDivisions(model: Model, singles: 'all' | 'few'): readonly (readonly number[])[] {
  const allowed = allowedCuts(model);
  const few = [allowed[0], allowed[allowed.length >> 1], allowed.at(-1)].filter(defined);
  const single = singles === 'all' ? allowed : [...new Set(few)];
  const more = [evenCuts(model, 3), evenCuts(model, 8), oneLayerCuts(model)].filter(defined);
  const divisions = [...single.map((cut) => [cut]), ...more];
  return [...new Map(divisions.map((cuts) => [cuts.join(), cuts])).values()];
}
