// npm run …: sets up what is missing, then runs the task with the pinned Node.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ROOT, pinnedNode, setup } from './setup.mjs';

const [task, ...rest] = process.argv.slice(2);
const TASKS = {
  demo: 'demo.mjs',
  test: 'test.mjs',
  'test:long': 'test-long.mjs',
  conformance: 'conformance.mjs',
  bench: 'bench.mjs',
  format: 'format.mjs',
};
setup();
if (task === 'build') process.exit(0);
const script = path.join(ROOT, 'scripts', TASKS[task] ?? 'missing');
if (!existsSync(script)) {
  process.stderr.write(`error usage.task: no task ${JSON.stringify(task)}\n  next: npm run\n`);
  process.exit(2);
}
// The task answers Ctrl-C itself (it shares our terminal's process group); this parent only waits for its end.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => signal !== 'SIGINT' && child.kill(signal));
const child = spawn(pinnedNode(), ['--disable-sigusr1', script, ...rest], {
  cwd: ROOT,
  stdio: 'inherit',
});
child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
