/** Finds out by trying what this machine can enforce: a launcher goes through every step but becoming the engine. */
import { openSync, readFileSync } from 'node:fs';
import { toMinikeepError } from '@minikeep/protocol';
import type { SandboxSupport } from '../sandbox.ts';
import { nodeOptions } from '../warden/node-options.ts';
import { hostArch, numberOf } from './arch.ts';
import { machineUidCandidates } from './identity.ts';
import { handshake, type OnStep, startLauncher } from './launcher-client.ts';
import { EngineMemory } from './memory.ts';
import type { Listener } from './notify.ts';

export const MECHANISM = 'seccomp user notification';
/** Between two looks whether the trial has gone on: long, for nothing else is to be done meanwhile. */
const TRIAL_WAIT_MS = 10_000;
/** From scope 2 on only a tracer with CAP_SYS_PTRACE may read another process's memory. */
const YAMA_SCOPE_MAX = 1;
const PROBE_THREADS = 64;

function yamaScope(): number | undefined {
  try {
    return Number(readFileSync('/proc/sys/kernel/yama/ptrace_scope', 'utf8'));
  } catch {
    return undefined; // no Yama in this kernel
  }
}

/**
 * Lets the launcher become Node and stops at its first call: only then is the process the engine's, with its user's
 * rights to be read. The launcher is trusted, and Node gets no further.
 */
function passExec(listener: Listener, execveat: number): void {
  for (let executed = false; ;) {
    const state = listener.wait(TRIAL_WAIT_MS);
    if (state === 'ended') throw new Error('the engine did not start');
    if (state === 'nothing') continue;
    const notification = listener.receive();
    if (notification === undefined) continue;
    if (executed) return;
    executed = notification.nr === execveat;
    listener.answerContinue(notification.id);
  }
}

export async function probe(launcherScript: string, onStep: OnStep): Promise<SandboxSupport> {
  const missing: { what: string; next: string }[] = [];
  const also: string[] = [];
  try {
    const arch = hostArch();
    const isRoot = process.geteuid?.() === 0;
    const wires = { stdin: openSync('/dev/null', 'r'), stdout: openSync('/dev/null', 'w') };
    const started = startLauncher(process.execPath, launcherScript, arch, wires);
    try {
      const job = {
        uids: isRoot ? machineUidCandidates(process.pid) : [],
        is_root: isRoot,
        argv: [...nodeOptions(), '--version'],
        env: [],
        threads_max: PROBE_THREADS,
        warden_pid: process.pid,
      };
      const launched = await handshake(started, arch, job, onStep);
      if (launched.ready.landlock_abi > 0) also.push(`landlock abi ${launched.ready.landlock_abi}`);
      passExec(launched.listener, numberOf(arch, 'execveat'));
      try {
        EngineMemory.open(arch, launched.pid, launched.ready).close();
      } catch (error) {
        const scope = yamaScope();
        const yama = scope !== undefined && scope > YAMA_SCOPE_MAX;
        missing.push({
          what: `the warden can't read the engine's memory: ${(error as Error).message}${yama ? ` (Yama ptrace_scope is ${scope})` : ''}`,
          next: yama
            ? 'As root: sysctl kernel.yama.ptrace_scope=1, or run minikeep as root.'
            : 'In a container, its profile must let a process trace its own children.',
        });
      }
      if (!started.child.kill(0))
        missing.push({
          what: 'the warden may not stop the engine: it lacks CAP_KILL',
          next: 'Run minikeep as an ordinary user, or give the container CAP_KILL.',
        });
    } finally {
      started.child.kill('SIGKILL');
    }
  } catch (error) {
    const { message, next } = toMinikeepError(error);
    missing.push({ what: message, next });
  }
  return {
    ok: missing.length === 0,
    platform: `linux ${process.arch}`,
    mechanism: MECHANISM,
    also,
    missing,
  };
}
