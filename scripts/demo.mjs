// npm run demo: `minikeep demo` with the embedded model or, in a checkout that has none, with a random one.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ROOT } from './setup.mjs';

const RANDOM_LAYERS = 30;

const args = process.argv.slice(2);
if (!existsSync(path.join(ROOT, 'models/keeper.gguf')) && !args.includes('--model')) {
  const { randomModelFile } = await import('../packages/testkit/src/index.ts');
  const model = await randomModelFile('llama', { layers: RANDOM_LAYERS });
  process.stdout.write(
    'This checkout has no embedded model (models/keeper.gguf): the demo uses one with random weights.\nIts answer means nothing; everything else is real.\n\n',
  );
  args.push('--model', model, '--random');
}
// The program answers Ctrl-C; this process only waits for it.
process.on('SIGINT', () => {});
const child = spawn(
  process.execPath,
  ['--disable-sigusr1', path.join(ROOT, 'dist/minikeep.mjs'), 'demo', ...args],
  { stdio: 'inherit' },
);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
