/**
 * Loaded before a trusted process's own program (`node --import`): its clock jumps five times a second, by an hour or
 * ten years, forwards and backwards, and is never right. Monotonic time is left alone, as it is when a clock is set.
 */
const HOUR_MS = 3_600_000;
const TEN_YEARS_MS = 3_652 * 24 * HOUR_MS;
const JUMPS_MS = [HOUR_MS, -HOUR_MS, TEN_YEARS_MS, -TEN_YEARS_MS];
const JUMP_EVERY_MS = 200;

const RealDate = Date;
const now = () =>
  RealDate.now() +
  (JUMPS_MS[Math.floor(performance.now() / JUMP_EVERY_MS) % JUMPS_MS.length] ?? HOUR_MS);

globalThis.Date = new Proxy(RealDate, {
  apply: () => new RealDate(now()).toString(),
  construct: (target, args) =>
    args.length === 0 ? new target(now()) : Reflect.construct(target, args),
  get: (target, key, receiver) => (key === 'now' ? now : Reflect.get(target, key, receiver)),
});

// Command line and guards start the others with their own Node: with this one those clocks jump, too.
const node = process.env['MINIKEEP_TEST_NODE'];
if (node !== undefined && /(minikeep|guard)\.mjs$/.test(process.argv[1] ?? ''))
  process.execPath = node;
