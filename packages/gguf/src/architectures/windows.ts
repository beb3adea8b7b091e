/**
 * Sliding windows follow a pattern that llama.cpp derives from one number and counts from layer 0. A slice starts
 * its count anew, so it needs a number that gives its layers the same flags as in the whole; often there is one
 * even where the slice does not start at a multiple of the period.
 */

/** Does layer i slide, for period P? P = 0: all do; P = 1: none. */
export const slides = (layer: number, period: number): boolean =>
  period === 0 || layer % period < period - 1;

/**
 * The number for a slice of layers first <= i < end, or undefined if none gives the same flags. The planner asks for
 * every range of a model, so this takes one look at each layer.
 */
export function periodFor(first: number, end: number, period: number): number | undefined {
  const length = end - first;
  const fits = (candidate: number): boolean => {
    for (let i = 0; i < length; i++)
      if (slides(i, candidate) !== slides(first + i, period)) return false;
    return true;
  };
  if (fits(period)) return period;
  // The first layer that does not slide settles the number: P - 1 is the first for P. None: 0, all slide.
  let still = 0;
  while (still < length && slides(first + still, period)) still++;
  const candidate = still === length ? 0 : still + 1;
  return fits(candidate) ? candidate : undefined;
}

/** True if at least one of the layers slides. */
export function anySlides(first: number, end: number, period: number): boolean {
  for (let i = first; i < end; i++) if (slides(i, period)) return true;
  return false;
}
