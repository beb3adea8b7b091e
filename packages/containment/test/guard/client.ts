// A guarded process as an agent will be one: it has its guard start a warden, and says what it saw. Its loop is then
// kept busy, so that only the kernel can end it.
import { closeSync, readFileSync } from 'node:fs';
import { guarding } from '../../src/guard/client.ts';
import { hostArch } from '../../src/linux/arch.ts';
import { makePipe } from '../../src/linux/libc.ts';

const found = await guarding();
if (found.state !== 'on') throw new Error(`guard: ${found.state}`);
const { guard } = found;
// Hearing the guard keeps nobody alive.
const alive = setInterval(() => {}, 1_000);
const { numbers } = hostArch();
const [stdin, toWarden] = makePipe(numbers);
const [fromWarden, stdout] = makePipe(numbers);
const [errors, stderr] = makePipe(numbers);
const warden = guard.startWarden({ stdin, stdout, stderr });
const pid = await new Promise<number>((resolve) => warden.onPid(resolve));
for (const fd of [stdin, stdout, stderr]) closeSync(fd);
const status = readFileSync(`/proc/${pid}/status`, 'utf8');
const field = (name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
const [parent, filters] = [field('PPid'), field('Seccomp')];
// Its order never comes, and its input ends.
closeSync(toWarden);
const ended = await warden.ended;
for (const fd of [fromWarden, errors]) closeSync(fd);
const denied = await guard
  .startWarden({ stdin: 0, stdout: 1, stderr: 999 })
  .ended.then(({ why }) => why);
clearInterval(alive);
const document = {
  type: 'warden',
  pid: process.pid,
  parent,
  filters,
  ended,
  denied,
  left: process.env,
};
process.stdout.write(`${JSON.stringify(document)}\n`, () => {
  for (;;);
});
