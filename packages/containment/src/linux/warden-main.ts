/**
 * The warden: one process for one engine. It refuses and names what the engine may not do, and the engine lives no
 * longer than it: the kernel kills the engine when the warden dies, and the warden ends when its agent does.
 *
 * Descriptors: 0 control from the agent, 1 control to it, 3 the engine's stdin, 4 the engine's stdout.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { toMinikeepError } from '@minikeep/protocol';
import { hostArch, numberOf } from './arch.ts';
import { type FromWarden, line, lineReader, type ToWarden } from './control.ts';
import { libc } from './libc.ts';
import { probe } from './probe.ts';
import { supervise, type Supervised } from './supervise.ts';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
const ENGINE_STDIN = 3;
const ENGINE_STDOUT = 4;

const launcher = path.join(path.dirname(fileURLToPath(import.meta.url)), 'launcher.mjs');
const report = (message: FromWarden): void => {
  process.stdout.write(line(message));
};
/** Ends the process when everything said was written, or the reader is gone. */
function leave(code: number): void {
  process.stdout.write('', () => process.exit(code));
}
function fail(thrown: unknown): void {
  const { code, message, next } = toMinikeepError(thrown);
  report({ type: 'failed', code, message, next });
  leave(1);
}

let supervised: Promise<Supervised> | undefined;

function onMessage(message: ToWarden): void {
  if (message.type === 'probe' && supervised === undefined) {
    probe(launcher).then((support) => {
      report({ type: 'support', support });
      leave(0);
    }, fail);
  } else if (message.type === 'start' && supervised === undefined) {
    supervised = supervise(
      message.job,
      { stdin: ENGINE_STDIN, stdout: ENGINE_STDOUT },
      launcher,
      report,
    );
    supervised.then((s) => s.ended.then(() => leave(0), fail), fail);
  } else if (message.type === 'seal') supervised?.then((s) => s.seal(), fail);
  else if (message.type === 'kill') supervised?.then((s) => s.kill(message.reason), fail);
}

function agentGone(): void {
  // The kernel ends the engine with us.
  process.kill(process.pid, 'SIGKILL');
}

const agentPid = Number(process.argv[2]);
// Before anything else is started: without it an engine could outlive a killed agent.
libc().syscall(numberOf(hostArch(), 'prctl'), PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
if (process.ppid !== agentPid) agentGone();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const)
  process.on(signal, () => undefined);
process.stdout.on('error', agentGone);
process.stdin.on(
  'data',
  lineReader((message) => onMessage(message as ToWarden), fail),
);
process.stdin.on('end', agentGone);
process.stdin.on('error', agentGone);
