/**
 * The warden of macOS: one process for one engine, speaking with its agent as Linux's does (control.ts). Seatbelt
 * refuses; this process starts, watches and ends. It ends when its agent does, and its engine with it.
 *
 * Descriptors: 0 control from the agent, 1 control to it, 3 the engine's stdin, 4 the engine's stdout.
 */
import { realpathSync } from 'node:fs';
import { toMinikeepError } from '@minikeep/protocol';
import { type FromWarden, line, lineReader, type ToWarden } from '../linux/control.ts';
import type { Commands } from './commands.ts';
import { selfCheck } from './self-check.ts';
import { supervise, type Supervised } from './supervise.ts';

const ENGINE_STDIN = 3;
const ENGINE_STDOUT = 4;

export function serveWarden(commands: Commands): void {
  const report = (message: FromWarden): void => {
    process.stdout.write(line(message));
  };
  /** Ends the process when everything said was written, or the reader is gone. */
  const leave = (code: number): void => {
    process.stdout.write('', () => process.exit(code));
  };
  const fail = (thrown: unknown): void => {
    const { code, message, next } = toMinikeepError(thrown);
    report({ type: 'failed', code, message, next });
    leave(1);
  };
  /** The guard ends the engine with us. */
  const agentGone = (): void => void process.kill(process.pid, 'SIGKILL');

  let supervised: Promise<Supervised> | undefined;
  const onMessage = (message: ToWarden): void => {
    if (message.type === 'probe' && supervised === undefined) {
      const machine = {
        platform: process.platform,
        arch: process.arch,
        node: realpathSync(process.execPath),
      };
      selfCheck(commands, machine).then((support) => {
        report({ type: 'support', support });
        leave(0);
      }, fail);
    } else if (message.type === 'start' && supervised === undefined) {
      const wires = { stdin: ENGINE_STDIN, stdout: ENGINE_STDOUT };
      supervised = supervise(message.job, { commands, wires, report });
      supervised.then((s) => s.ended.then(() => leave(0), fail), fail);
    } else if (message.type === 'seal') supervised?.then((s) => s.seal(), fail);
    else if (message.type === 'kill') supervised?.then((s) => s.kill(message.reason), fail);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const)
    process.on(signal, () => undefined);
  process.stdout.on('error', agentGone);
  process.stdin.on(
    'data',
    lineReader((message) => onMessage(message as ToWarden), fail),
  );
  process.stdin.on('end', agentGone);
  process.stdin.on('error', agentGone);
  if (process.ppid !== Number(process.argv[2])) agentGone();
}
