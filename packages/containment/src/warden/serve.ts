/**
 * What a warden's process does on every platform: speaks with its agent, one line a message, and lives as long as it.
 *
 * Descriptors: 0 control from the agent, 1 control to it, 3 the engine's stdin, 4 the engine's stdout.
 */
import { toMinikeepError } from '@minikeep/protocol';
import type { RefusedOutside } from '../canary/outside.ts';
import type { SandboxSupport } from '../sandbox.ts';
import { BEAT_MS } from './silence.ts';
import {
  type FromWarden,
  line,
  lineReader,
  type StartStep,
  type ToWarden,
  type WardenJob,
} from './control.ts';

/** Descriptors of the engine's pipes in the warden's process. */
export const ENGINE_WIRES = { stdin: 3, stdout: 4 } as const;

/** An engine that runs under this warden. */
export interface Supervised {
  seal(): void;
  kill(reason: string): void;
  /** Resolves after the last message was reported. */
  readonly ended: Promise<void>;
}

export interface WardenParts {
  /** Whether a sandbox is possible here. */
  readonly probe: (onStep: (step: StartStep, pid?: number) => void) => Promise<SandboxSupport>;
  /** What a filter around all of minikeep refuses; absent where there are none. */
  readonly outside?: () => Promise<readonly RefusedOutside[]>;
  readonly supervise: (
    job: WardenJob,
    report: (message: FromWarden) => void,
  ) => Promise<Supervised>;
}

/** Serves one agent, whose process id is the program's first argument: one probe or one engine, then it ends. */
export function serveWarden({ probe, outside, supervise }: WardenParts): void {
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
  /** The engine ends with us: the kernel (Linux) or its guard (macOS) sees to it. */
  const agentGone = (): void => void process.kill(process.pid, 'SIGKILL');

  let supervised: Promise<Supervised> | undefined;
  const onMessage = (message: ToWarden): void => {
    if (message.type === 'probe' && supervised === undefined) {
      const onStep = (step: StartStep, pid?: number): void =>
        report({ type: 'step', step, ...(pid === undefined ? {} : { pid }) });
      probe(onStep).then((support) => {
        report({ type: 'support', support });
        leave(0);
      }, fail);
    } else if (message.type === 'outside' && supervised === undefined) {
      Promise.resolve(outside?.()).then((refused) => {
        report({ type: 'outside', refused: refused ?? [] });
        leave(0);
      }, fail);
    } else if (message.type === 'start' && supervised === undefined) {
      supervised = supervise(message.job, report);
      // Whoever hears nothing of us knows that nobody watches.
      setInterval(() => report({ type: 'alive' }), BEAT_MS).unref();
      supervised.then((s) => s.ended.then(() => leave(0), fail), fail);
    } else if (message.type === 'seal') supervised?.then((s) => s.seal(), fail);
    else if (message.type === 'kill') supervised?.then((s) => s.kill(message.reason), fail);
  };
  if (process.ppid !== Number(process.argv[2])) agentGone();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const)
    process.on(signal, () => undefined);
  process.stdout.on('error', agentGone);
  process.stdin.on(
    'data',
    lineReader((message) => onMessage(message as ToWarden), fail),
  );
  process.stdin.on('end', agentGone);
  process.stdin.on('error', agentGone);
}
