// npm run format: writes every source file in the one form that `npm test` accepts, and fixes what the linter can.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { ROOT } from './setup.mjs';

const bin = (name) => path.join(ROOT, 'node_modules', name, 'bin', name);
let status = 0;
for (const [tool, args] of [
  ['oxlint', ['--fix', '--quiet']],
  ['oxfmt', ['.']],
]) {
  const r = spawnSync(process.execPath, [bin(tool), ...args], {
    cwd: ROOT,
    stdio: 'inherit',
    timeout: 5 * 60_000,
  });
  if (r.status !== 0) status = r.status ?? 1;
}
process.exit(status);
