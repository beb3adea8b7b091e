/**
 * Loaded before a trusted process's own program (`node --import`): its clock is wrong by MINIKEEP_TEST_CLOCK_MS. The
 * certificates that it makes begin and end by that clock, so whoever checks them with a right one sees the difference.
 */
const OFF_MS = Number(process.env['MINIKEEP_TEST_CLOCK_MS']);

const RealDate = Date;
const now = () => RealDate.now() + OFF_MS;

globalThis.Date = new Proxy(RealDate, {
  apply: () => new RealDate(now()).toString(),
  construct: (target, args) =>
    args.length === 0 ? new target(now()) : Reflect.construct(target, args),
  get: (target, key, receiver) => (key === 'now' ? now : Reflect.get(target, key, receiver)),
});

// The command line starts the daemons with its own Node: with this one their clocks are wrong, too.
const node = process.env['MINIKEEP_TEST_NODE'];
if (node !== undefined && /(minikeep|guard)\.mjs$/.test(process.argv[1] ?? ''))
  process.execPath = node;
