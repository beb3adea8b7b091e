/** How a trusted process ends, as a real one: what it was given for its life goes with it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';

const SOURCE = path.resolve(import.meta.dirname, '../src/index.ts');

it('that is told twice to end ends at once, and leaves no folder with its key', async () => {
  const parent = mkdtempSync(path.join(tmpdir(), 'minikeep-process-'));
  const folder = path.join(parent, 'node-1');
  mkdirSync(folder);
  writeFileSync(path.join(folder, 'key.pem'), 'a key');
  const script = `
    import { runProcess } from ${JSON.stringify(SOURCE)};
    setInterval(() => {}, 1000);
    await runProcess({
      log: (level, message) => console.error(message),
      start: async () => ({
        running: {
          address: '',
          stop() {
            console.log('stopping');
            return new Promise(() => {});
          },
        },
        endWithStdin: false,
        temporaryFolder: ${JSON.stringify(folder)},
      }),
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: import.meta.dirname,
  });
  const exited = once(child, 'exit');
  let said = '';
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString();
  });
  await expect.poll(() => said, { timeout: 30_000 }).toContain('listening');
  child.kill('SIGTERM');
  await expect.poll(() => said, { timeout: 30_000 }).toContain('stopping');
  expect(existsSync(folder)).toBe(true);
  child.kill('SIGTERM');
  await exited;
  expect(existsSync(parent)).toBe(false);
});
