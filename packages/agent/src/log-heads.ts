/**
 * What this node remembers of the cluster's event log: the signed heads that its coordinator gave it. One that goes back
 * is refused, and one that was given stays: a log that was changed, cut or rolled back elsewhere is found out by it.
 */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { isSigned } from '@minikeep/protocol/rpc';
import type { LogHead } from '@minikeep/protocol/v1';
import { readKeyFile, writeKeyFile } from '@minikeep/state';
import { z } from 'zod';

const FILE = 'log-heads.json';
/** The newest ones of the newest era, and the last one of each era before. */
const HEADS_MAX = 32;
const ERAS_MAX = 32;
const KEPT = z.array(
  z.strictObject({
    era: z.number().int().nonnegative(),
    number: z.number().int().nonnegative(),
    digest: z.string().regex(/^[\da-f]{64}$/),
    at_ms: z.number().int().nonnegative(),
    signature: z.string().regex(/^[\da-f]{2,300}$/),
  }),
);

export interface LogHeadsOptions {
  /** Where they are kept. */
  readonly home: string;
  readonly cluster: string;
  /** The authority's certificate, PEM. */
  readonly authority: string;
}

export class LogHeads {
  readonly #options: LogHeadsOptions;
  #heads: LogHead[];

  /** A file that can't be read counts as none: what it said is gone, and the next head begins anew. */
  constructor(options: LogHeadsOptions) {
    this.#options = options;
    this.#heads = load(options);
  }

  /** The oldest first. */
  get all(): readonly LogHead[] {
    return this.#heads;
  }

  /** Returns what was the newest before. Throws `log.head_forged`, `log.rolled_back`, `home.*`. */
  keep(head: LogHead): LogHead | undefined {
    const { cluster, authority, home } = this.#options;
    if (head.cluster !== cluster || head.digest.length !== 32 || !isSigned(head, authority))
      throw refused('log.head_forged', "it is not signed by the cluster's authority");
    const before = this.#heads.at(-1);
    if (before !== undefined) {
      const back =
        head.era < before.era || (head.era === before.era && head.number < before.number);
      if (back)
        throw refused(
          'log.rolled_back',
          `it ends at entry ${head.number}, and was at ${before.number} already`,
        );
      const same = head.era === before.era && head.number === before.number;
      if (same && Buffer.compare(head.digest, before.digest) !== 0)
        throw refused('log.forked', `entry ${head.number} was another one before`);
      if (same) return before;
    }
    const next = shortened([...this.#heads, head]);
    writeKeyFile(home, FILE, JSON.stringify(next.map(document)));
    this.#heads = next;
    return before;
  }
}

function shortened(heads: readonly LogHead[]): LogHead[] {
  const era = heads.at(-1)?.era ?? 0;
  const older = heads.filter((head, i) => head.era < era && heads[i + 1]?.era !== head.era);
  return [...older.slice(-ERAS_MAX), ...heads.filter((head) => head.era === era).slice(-HEADS_MAX)];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const document = ({ era, number, digest, atMs, signature }: LogHead) => ({
  era,
  number,
  digest: hex(digest),
  at_ms: atMs,
  signature: hex(signature),
});

function load({ home, cluster, authority }: LogHeadsOptions): LogHead[] {
  const text = readKeyFile(home, FILE);
  if (text === undefined) return [];
  const parsed = KEPT.safeParse(tryParse(text));
  if (!parsed.success) return [];
  return parsed.data
    .map(({ era, number, digest, at_ms, signature }) => ({
      cluster,
      era,
      number,
      digest: Buffer.from(digest, 'hex'),
      atMs: at_ms,
      signature: Buffer.from(signature, 'hex'),
    }))
    .filter((head) => isSigned(head, authority));
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

const refused = (code: string, why: string): MinikeepError =>
  new MinikeepError(code, `the end of the event log was not taken: ${why}`, {
    next: 'Somebody may have changed the log on the coordinator: minikeep audit verify',
    exitCode: EXIT.denied,
  });
