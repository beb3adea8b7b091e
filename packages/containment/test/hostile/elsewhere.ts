/**
 * Sandboxes that another process starts: one that stands for an agent of another user, or in a container. The same
 * tests then attack what it started.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { MinikeepError } from '@minikeep/protocol';
import type {
  Sandbox,
  SandboxExit,
  SandboxPlatform,
  SandboxSpec,
  Violation,
} from '../../src/index.ts';
import { driverCommand, type Around, type Installed } from './installed.ts';

/** What the driver (`serve`) says, one JSON line each; files come before the records that follow them. */
export type FromDriver =
  | { readonly type: 'launched'; readonly pid: number; readonly instance: string }
  | { readonly type: 'error'; readonly code: string; readonly message: string }
  | { readonly type: 'files'; readonly files: readonly string[] }
  | { readonly type: 'violation'; readonly violation: Violation }
  | { readonly type: 'sealed' }
  | { readonly type: 'exit'; readonly exit: SandboxExit };

export type ToDriver =
  | { readonly type: 'launch'; readonly spec: SandboxSpec }
  | { readonly type: 'seal' }
  | { readonly type: 'kill'; readonly reason: string };

const failed = (code: string, message: string): MinikeepError =>
  new MinikeepError(code, message, { next: 'Look at the driver.' });

async function launch(at: Installed, around: Around, spec: SandboxSpec): Promise<Sandbox> {
  const [command, ...args] = driverCommand(at, 'serve', around);
  const driver: ChildProcess = spawn(command ?? '', args, {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '' },
    cwd: '/',
    ...(around.uid === undefined ? {} : { uid: around.uid, gid: around.uid }),
  });
  const [, , , input, output] = driver.stdio as [never, never, never, Writable, Readable];
  input.on('error', () => undefined); // the engine's end, which `exited` reports
  const launched = Promise.withResolvers<{ pid: number; instance: string }>();
  const exited = Promise.withResolvers<SandboxExit>();
  const sealed = Promise.withResolvers<void>();
  sealed.promise.catch(() => undefined);
  const listeners: ((violation: Violation) => void)[] = [];
  const early: Violation[] = [];
  const files: string[] = [];
  let stderr = '';
  driver.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const onEnd = (why: string): void => {
    const gone = failed('driver.ended', `the driver ended: ${why}`);
    launched.reject(gone);
    sealed.reject(gone);
    exited.reject(gone);
  };
  driver.once('error', (error) => onEnd(error.message));
  driver.once('close', () => onEnd(stderr.slice(-2000)));
  exited.promise.catch(() => undefined);
  const onLine = (message: FromDriver): void => {
    switch (message.type) {
      case 'launched':
        return launched.resolve(message);
      case 'error':
        // The one that waits is meant; the other has its answer.
        launched.reject(failed(message.code, message.message));
        return sealed.reject(failed(message.code, message.message));
      case 'files':
        files.push(...message.files);
        return;
      case 'violation':
        if (listeners.length === 0) early.push(message.violation);
        for (const listener of listeners) listener(message.violation);
        return;
      case 'sealed':
        return sealed.resolve();
      case 'exit':
        return exited.resolve(message.exit);
    }
  };
  if (driver.stdout !== null)
    createInterface({ input: driver.stdout }).on('line', (text) =>
      onLine(JSON.parse(text) as FromDriver),
    );
  driver.stdin?.on('error', () => undefined);
  const send = (message: ToDriver): void => {
    driver.stdin?.write(`${JSON.stringify(message)}\n`);
  };
  send({ type: 'launch', spec });
  const { pid, instance } = await launched.promise;
  return {
    pid,
    instance,
    input,
    output,
    seal: () => {
      send({ type: 'seal' });
      return sealed.promise;
    },
    kill: (reason) => {
      send({ type: 'kill', reason });
      return exited.promise;
    },
    exited: exited.promise,
    onViolation: (listener) => {
      listeners.push(listener);
      for (const violation of early.splice(0)) listener(violation);
    },
    filesRead: files,
  };
}

/** Only `launch`: the trial is `short`'s business. */
export const elsewhere = (at: Installed, around: Around): Pick<SandboxPlatform, 'launch'> => ({
  launch: (spec) => launch(at, around, spec),
});
