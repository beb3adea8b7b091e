// A bench that is interrupted leaves no process and no file: what has to be undone is told here when it begins.
const undo = new Set();

/** Calls `action` when this process ends, whatever ends it. It must be quick, and bear being called late. */
export const atEnd = (action) => void undo.add(action);

process.once('exit', () => {
  for (const action of undo) action();
});
const SIGNAL_EXIT = 128;
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
])
  process.once(signal, () => process.exit(SIGNAL_EXIT + number));
