// A process that opens a home and says what came of it, for tests that need another user or another process.
// Run directly by Node: opener.ts HOME [hold]
import { Home, State } from '@minikeep/state';
import { toMinikeepError } from '@minikeep/protocol';

const [folder = '', hold] = process.argv.slice(2);
try {
  const home = Home.open(folder);
  const state = State.open(home, () => Date.now());
  process.stdout.write('{"opened":true}\n');
  if (hold === 'hold') setTimeout(() => {}, 120_000);
  else {
    state.close();
    home.close();
  }
} catch (thrown) {
  process.stdout.write(`${JSON.stringify(toMinikeepError(thrown).toJSON())}\n`);
}
