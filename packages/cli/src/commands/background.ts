/** `minikeep start --background` and `minikeep stop`: a node where nothing manages services. */
import { spawn } from 'node:child_process';
import {
  closeSync,
  fchmodSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { serviceHome } from '@minikeep/service';
import type { CommandContext } from '../command-context.ts';
import { homeFolder, nodeSettings, typedPath, type HomeFlags } from '../home-folder.ts';
import { endOf, startedProcess } from '../started.ts';
import type { StartFlags } from './start.ts';

const LOG = 'start.log';
/** A longer log becomes the one before, and a new one begins. */
const LOG_BYTES_MAX = 16 * 1024 * 1024;
const LISTEN_MS_MAX = 60_000;
const STOP_MS_MAX = 30_000;
const POLL_MS = 50;
const LOG_SHOWN_BYTES = 2_000;

export async function startInBackground(
  { terminal, interrupts, distFolder }: CommandContext,
  flags: StartFlags,
): Promise<number> {
  const folder = homeFolder(flags);
  const settings = nodeSettings(folder);
  const say = async (pid: number, again: boolean): Promise<number> => {
    if (flags.json === true)
      await terminal.json({ node: settings.node, pid, log: path.join(folder, LOG), again });
    else
      await terminal.line(
        again
          ? `node ${settings.node} runs already, as process ${pid}`
          : `node ${settings.node} runs as process ${pid}; its log is ${path.join(folder, LOG)}. End it: minikeep stop --home ${typedPath(folder)}`,
      );
    return EXIT.ok;
  };
  const running = startedProcess(folder);
  if (running !== undefined) return say(running, true);
  const log = openLog(path.join(folder, LOG));
  const begin = fstatSync(log).size;
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = spawn(
    process.execPath,
    [
      '--disable-sigusr1',
      path.join(distFolder, 'minikeep.mjs'),
      'start',
      '--home',
      folder,
      '--json',
      ...(flags.unsafeNoSandbox === true ? ['--unsafe-no-sandbox'] : []),
      ...(flags.discovery === false ? ['--no-discovery'] : []),
      ...(flags.acceptChanged === true ? ['--accept-changed'] : []),
      ...(flags.network ?? []).flatMap((network) => ['--network', network]),
    ],
    { stdio: ['ignore', log, log], detached: true, cwd: '/', env },
  );
  let ended = false;
  child.once('exit', () => (ended = true));
  child.once('error', () => (ended = true));
  try {
    for (let waited = 0; waited < LISTEN_MS_MAX && !ended; waited += POLL_MS) {
      interrupts.signal.throwIfAborted();
      if (/"type":"listening","process":"agent"/.test(tail(log, begin))) {
        child.unref();
        return await say(child.pid ?? 0, false);
      }
      await pause(POLL_MS);
    }
    if (!ended) child.kill('SIGTERM');
    throw new MinikeepError(
      'start.failed',
      `node ${settings.node} did not start: ${tail(log, begin).trim().slice(-LOG_SHOWN_BYTES)}`,
      { next: `See why in the foreground: minikeep start --home ${typedPath(folder)} --verbose` },
    );
  } catch (thrown) {
    if (!ended) child.kill('SIGTERM');
    throw thrown;
  } finally {
    closeSync(log);
  }
}

function openLog(file: string): number {
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES_MAX)
    renameSync(file, `${file}.1`);
  const log = openSync(file, 'a+', 0o600);
  fchmodSync(log, 0o600);
  return log;
}

/** What was written since `begin`, its end at most. */
function tail(log: number, begin: number): string {
  const { size } = fstatSync(log);
  const from = Math.max(begin, size - LOG_BYTES_MAX);
  const bytes = Buffer.alloc(Math.max(0, size - from));
  return bytes.toString('utf8', 0, readSync(log, bytes, 0, bytes.length, from));
}

export async function stop({ terminal }: CommandContext, flags: HomeFlags): Promise<number> {
  const folder = homeFolder(flags);
  const settings = nodeSettings(folder);
  const pid = startedProcess(folder);
  if (pid === undefined)
    throw new MinikeepError('stop.not_running', `node ${settings.node} does not run`, {
      next: `Start it: minikeep start --home ${typedPath(folder)}`,
      exitCode: EXIT.unreachable,
    });
  if (serviceHome() === folder)
    throw new MinikeepError(
      'stop.is_service',
      'this node is a service, which would start it again',
      {
        next: `${process.platform === 'darwin' ? 'sudo launchctl bootout system/minikeep.node' : 'sudo systemctl stop minikeep'}; for good: sudo minikeep service remove`,
        exitCode: EXIT.usage,
      },
    );
  process.kill(pid, 'SIGTERM');
  if (!(await endOf(pid, STOP_MS_MAX))) process.kill(pid, 'SIGKILL');
  if (flags.json === true) await terminal.json({ node: settings.node, pid });
  else await terminal.line(`node ${settings.node} has ended`);
  return EXIT.ok;
}
