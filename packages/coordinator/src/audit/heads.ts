/**
 * Tells every node where the event log ends, signed, whenever it has grown: so that an edit, a cut or a roll-back of the
 * log on this machine shows on the others. What a node remembers is compared with the log each time.
 */
import { setTimeout as setTimer } from 'node:timers/promises';
import { CALL_TIMEOUT_MS, toMinikeepError, type Logger } from '@minikeep/protocol';
import { deadline, signHead } from '@minikeep/protocol/rpc';
import type { LogHead } from '@minikeep/protocol/v1';
import type { State } from '@minikeep/state';
import type { NodeLink } from '../node-link.ts';

/** So much of the log may be lost on this machine without another one knowing. */
const TELL_MS = 2_000;

export interface HeadsOptions {
  readonly state: State;
  readonly cluster: string;
  /** The authority's, PEM. */
  readonly key: string;
  readonly nodes: () => readonly NodeLink[];
  readonly log: Logger;
}

export class Heads {
  readonly #options: HeadsOptions;
  /** What each node was told last. */
  readonly #told = new Map<NodeLink, number>();
  readonly #doubts = new Map<string, string>();

  constructor(options: HeadsOptions) {
    this.#options = options;
  }

  /** By node: why its memory of the log does not fit the log. */
  get doubts(): ReadonlyMap<string, string> {
    return this.#doubts;
  }

  /** Where the log ends now. */
  current(): LogHead {
    const { state, cluster, key } = this.#options;
    const { number, digest, era } = state.end();
    return signHead({ cluster, era, number, digest, atMs: Date.now() }, key);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await setTimer(TELL_MS, undefined, { signal, ref: false }).catch(() => {});
      if (!signal.aborted) await this.tell(signal);
    }
  }

  /** All that are there, and were not told of this end yet. */
  async tell(signal?: AbortSignal): Promise<void> {
    let head: LogHead | undefined;
    const last = this.#options.state.lastEvent();
    const due = this.#options.nodes().filter((node) => node.up && this.#told.get(node) !== last);
    if (due.length === 0 || last === 0) return;
    await Promise.all(
      due.map(async (node) => {
        head ??= this.current();
        try {
          const { before } = await node.agent.keepHead(
            { head },
            { signal: deadline(CALL_TIMEOUT_MS, signal) },
          );
          this.#told.set(node, head.number);
          this.#compare(node.name, before);
        } catch (thrown) {
          if (signal?.aborted === true) return;
          const { code, message } = toMinikeepError(thrown);
          if (code.startsWith('log.')) this.#doubt(node.name, message);
          else
            this.#options.log('warn', 'a node was not told of the log', { node: node.name, code });
        }
      }),
    );
  }

  #compare(node: string, before: LogHead | undefined): void {
    const what = before === undefined ? '' : this.#options.state.differs(before);
    if (what === '') this.#doubts.delete(node);
    else this.#doubt(node, what);
  }

  #doubt(node: string, what: string): void {
    if (this.#doubts.get(node) === what) return;
    this.#doubts.set(node, what);
    this.#options.log('error', 'the event log is not as a node remembers it', { node, what });
  }
}
