/**
 * Wardens, started for the guarded process: this one program, with these arguments, is all that ever runs outside of the
 * filter. The process gives nothing but pipes, and only pipes are taken.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fstatSync } from 'node:fs';
import type { FromGuard, WardenWires } from '../../guard/control.ts';
import { WARDENS_MAX } from '../../guard/limits.ts';
import { wardenArguments, WARDEN_ENV } from '../../warden/node-options.ts';
import type { Sockets } from './sockets.ts';

export interface WardensOptions {
  readonly sockets: Sockets;
  /** The warden's program. */
  readonly program: string;
  /** The guarded process. */
  readonly pid: () => number;
  readonly report: (message: FromGuard) => void;
}

export class Wardens {
  readonly #o: WardensOptions;
  readonly #running = new Map<number, ChildProcess>();

  constructor(options: WardensOptions) {
    this.#o = options;
  }

  start(id: number, { stdin, stdout, stderr, engine }: WardenWires): void {
    const wanted = [stdin, stdout, stderr, ...(engine ? [engine.stdin, engine.stdout] : [])];
    const copies: number[] = [];
    try {
      if (this.#running.has(id)) throw new Error('the number is in use');
      if (this.#running.size >= WARDENS_MAX) throw new Error(`there are ${WARDENS_MAX} already`);
      for (const fd of wanted) {
        const copy = this.#o.sockets.borrow(this.#o.pid(), fd);
        if (copy < 0) throw new Error(`descriptor ${fd} can't be had (errno ${-copy})`);
        copies.push(copy);
        if (!fstatSync(copy).isFIFO()) throw new Error(`descriptor ${fd} is no pipe`);
      }
      const [a, b, c, d = 'ignore' as const, e = 'ignore' as const] = copies;
      const child = spawn(process.execPath, wardenArguments(this.#o.program), {
        stdio: [a, b, c, d, e],
        detached: true,
        env: WARDEN_ENV,
        cwd: '/',
      });
      this.#running.set(id, child);
      const ended = (code: number | null, signal: string | null, why: string): void => {
        if (this.#running.get(id) !== child) return;
        this.#running.delete(id);
        this.#o.report({ type: 'warden_ended', id, code, signal, why });
      };
      child.once('error', (error) => ended(null, null, error.message));
      child.once('exit', (code, signal) => ended(code, signal, ''));
      if (child.pid !== undefined) this.#o.report({ type: 'warden', id, pid: child.pid });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#o.report({ type: 'warden_ended', id, code: null, signal: null, why });
    } finally {
      for (const copy of copies) closeSync(copy);
    }
  }

  kill(id: number): void {
    this.#running.get(id)?.kill('SIGKILL');
  }
}
