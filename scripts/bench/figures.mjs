// Figures of a bench: medians with the middle half, and ratios of what was measured in the same round.

export const quantile = (values, q) =>
  values.toSorted((a, b) => a - b)[Math.round((values.length - 1) * q)];

/** Median and the middle half. */
export const spread = (values) => ({
  median: quantile(values, 0.5),
  quarter: quantile(values, 0.25),
  three_quarters: quantile(values, 0.75),
});

/** Ratios round by round: what slows the machine for a while slows both. */
export const pairedRatio = (above, below) => spread(above.map((value, i) => value / below[i]));

export const text = ({ median, quarter, three_quarters }, digits) =>
  `${median.toFixed(digits)} (${quarter.toFixed(digits)} to ${three_quarters.toFixed(digits)})`;

/** A claim of the design beside what was measured. `atMost` or `atLeast`. */
export function claim(what, measured, { atLeast, atMost }) {
  const limit = atLeast ?? atMost;
  const met = atLeast === undefined ? measured <= limit : measured >= limit;
  return { what, measured, [atLeast === undefined ? 'at_most' : 'at_least']: limit, met };
}

/** A fixed loop: how much its time varies is what this machine adds to every figure. */
export function machineNoise() {
  const times = [];
  for (let i = 0; i < 40; i++) {
    const began = performance.now();
    let x = 1;
    for (let k = 0; k < 3_000_000; k++) x = (x * 1103515245 + 12345) % 2147483648;
    if (x < 0) throw new Error('unreachable');
    times.push(performance.now() - began);
  }
  return spread(times);
}
