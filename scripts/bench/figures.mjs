// Figures of a bench: medians with the middle half, and ratios of what was measured in the same round.

export const quantile = (values, q) =>
  values.toSorted((a, b) => a - b)[Math.round((values.length - 1) * q)];

/** How far the ranks of a 95 % interval of the median lie from the middle, in standard deviations of a fair coin. */
const SURE = 1.96;

/** Where the median itself lies with 95 % (order statistics; no assumption about the noise but that rounds are alike). */
function medianInterval(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const reach = (SURE * Math.sqrt(sorted.length)) / 2;
  const rank = (at) => sorted[Math.min(sorted.length - 1, Math.max(0, at))];
  return [
    rank(Math.floor(sorted.length / 2 - reach)),
    rank(Math.ceil(sorted.length / 2 + reach) - 1),
  ];
}

/** Median, the middle half, and the interval in which the median is known to lie. */
export const spread = (values) => ({
  median: quantile(values, 0.5),
  quarter: quantile(values, 0.25),
  three_quarters: quantile(values, 0.75),
  interval: medianInterval(values),
});

/** Ratios round by round: what slows the machine for a while slows both. */
export const pairedRatio = (above, below) => spread(above.map((value, i) => value / below[i]));

export const text = ({ median, quarter, three_quarters }, digits) =>
  `${median.toFixed(digits)} (${quarter.toFixed(digits)} to ${three_quarters.toFixed(digits)})`;

/** A claim of the design beside what was measured. `atMost` or `atLeast`; `interval`: how sure the figure is. */
export function claim(what, measured, { atLeast, atMost, interval }) {
  const limit = atLeast ?? atMost;
  const met = atLeast === undefined ? measured <= limit : measured >= limit;
  return {
    what,
    measured,
    [atLeast === undefined ? 'at_most' : 'at_least']: limit,
    met,
    ...(interval === undefined ? {} : { interval }),
  };
}
