/**
 * Who belongs to the cluster: the rows of cluster, nodes, certificates and tokens. Each function is one step inside the
 * caller's transaction; together with its event it is there in whole or not at all.
 */
import { timingSafeEqual } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { Transaction } from './state.ts';

/** A cluster is a stack of machines in one room. */
export const NODES_MAX = 64;
/** Tokens that nobody used are few; more is a program gone wrong. */
export const TOKENS_MAX = 1_000;

export interface ClusterRow {
  readonly id: string;
  readonly name: string;
  readonly authority: Uint8Array;
  readonly node: string;
  readonly revocationEpoch: number;
}

export interface NodeRow {
  readonly name: string;
  /** host:port, the likeliest first. */
  readonly addresses: readonly string[];
  readonly keyDigest: Uint8Array;
  readonly joinedAtMs: number;
  readonly draining: boolean;
  /** When its newest certificate ends; 0: it has none. */
  readonly certificateEndsAtMs: number;
}

export interface Joining {
  readonly name: string;
  readonly keyDigest: Uint8Array;
  readonly nowMs: number;
}

export function readCluster(database: DatabaseSync): ClusterRow | undefined {
  const row = database
    .prepare('SELECT id, name, authority, node, revocation_epoch FROM cluster')
    .get() as unknown as
    | (Omit<ClusterRow, 'revocationEpoch'> & { revocation_epoch: number })
    | undefined;
  if (row === undefined) return undefined;
  const { revocation_epoch: revocationEpoch, ...rest } = row;
  return { ...rest, revocationEpoch };
}

export function createCluster(
  { database, event }: Transaction,
  cluster: Omit<ClusterRow, 'revocationEpoch'>,
  nowMs: number,
): void {
  database
    .prepare('INSERT INTO cluster VALUES (1, ?, ?, ?, ?, 0, ?)')
    .run(cluster.id, cluster.name, cluster.authority, cluster.node, nowMs);
  event('cluster.created', { cluster: cluster.id, node: cluster.node });
}

export function readNodes(database: DatabaseSync): NodeRow[] {
  const rows = database
    .prepare(
      `SELECT name, addresses, key_digest, joined_at_ms, draining,
         (SELECT max(not_after_ms) FROM certificates c WHERE c.node = n.name AND c.revoked_epoch IS NULL) AS ends
       FROM nodes n ORDER BY joined_at_ms, name`,
    )
    .all() as unknown as {
    name: string;
    addresses: string;
    key_digest: Uint8Array;
    joined_at_ms: number;
    draining: number;
    ends: number | null;
  }[];
  return rows.map((row) => ({
    name: row.name,
    addresses: JSON.parse(row.addresses) as string[],
    keyDigest: row.key_digest,
    joinedAtMs: row.joined_at_ms,
    draining: row.draining === 1,
    certificateEndsAtMs: row.ends ?? 0,
  }));
}

export function addToken(
  { database, event }: Transaction,
  token: { readonly id: string; readonly secretDigest: Uint8Array; readonly expiresAtMs: number },
  nowMs: number,
): void {
  // Used and expired ones are kept for a while: their reason is told to the operator.
  database.prepare('DELETE FROM tokens WHERE expires_at_ms < ?').run(nowMs - 30 * 24 * 3_600_000);
  const { count } = database.prepare('SELECT count(*) AS count FROM tokens').get() as {
    count: number;
  };
  if (count >= TOKENS_MAX)
    throw new MinikeepError('token.too_many', `there are already ${TOKENS_MAX} tokens`, {
      next: 'Use those, or wait until old ones are over for a month.',
    });
  database
    .prepare(
      'INSERT INTO tokens (id, secret_digest, created_at_ms, expires_at_ms) VALUES (?, ?, ?, ?)',
    )
    .run(token.id, token.secretDigest, nowMs, token.expiresAtMs);
  event('token.made', { token: token.id, expires_at_ms: token.expiresAtMs });
}

/** Why a token lets nobody in: for the event log only, the one who tries is told the same for each. */
export type TokenRefusal = 'unknown' | 'wrong_secret' | 'expired' | 'used';

/**
 * Whether this machine may join with this token. The same name and key may do so again with a token that it has used,
 * so that a join that was cut can be repeated.
 */
export function judgeToken(
  database: DatabaseSync,
  id: string,
  secretDigest: Uint8Array,
  keyDigest: Uint8Array,
  nowMs: number,
): { refused: TokenRefusal } | { refused: undefined; usedBy: string | undefined } {
  const row = database
    .prepare(
      'SELECT secret_digest, expires_at_ms, used_by, used_key_digest FROM tokens WHERE id = ?',
    )
    .get(id) as unknown as
    | {
        secret_digest: Uint8Array;
        expires_at_ms: number;
        used_by: string | null;
        used_key_digest: Uint8Array | null;
      }
    | undefined;
  // An unknown token takes as long as a wrong one.
  const known = row?.secret_digest ?? new Uint8Array(32);
  const equal = timingSafeEqual(known, secretDigest);
  if (row === undefined) return { refused: 'unknown' };
  if (!equal) return { refused: 'wrong_secret' };
  const own = row.used_key_digest !== null && timingSafeEqual(row.used_key_digest, keyDigest);
  if (row.used_by !== null && !own) return { refused: 'used' };
  if (row.expires_at_ms <= nowMs) return { refused: 'expired' };
  return { refused: undefined, usedBy: row.used_by ?? undefined };
}

/** The name that a joining machine gets: its wish, or one like it. Throws `node.name_taken`, `node.too_many`. */
export function nameFor(
  database: DatabaseSync,
  wish: string,
  fixed: boolean,
  keyDigest: Uint8Array,
): string {
  const nodes = readNodes(database);
  const own = nodes.find((node) => timingSafeEqual(node.keyDigest, keyDigest));
  // The machine is known by its key: a node that was away comes back as what it was.
  if (own !== undefined && (!fixed || own.name === wish)) return own.name;
  const taken = new Set(nodes.map((node) => node.name));
  if (own !== undefined || (fixed && taken.has(wish)))
    throw new MinikeepError(
      'node.name_taken',
      own === undefined
        ? `there is already a node ${wish}, with another key: it is another machine`
        : `this machine is already in the cluster, as ${own.name}`,
      {
        next:
          own === undefined
            ? `Join with another name (--name), or remove the old one first: minikeep node remove ${wish}`
            : `Join as ${own.name}, or remove that node first: minikeep node remove ${own.name}`,
        exitCode: EXIT.denied,
      },
    );
  if (nodes.length >= NODES_MAX)
    throw new MinikeepError('node.too_many', `the cluster already has ${NODES_MAX} nodes`, {
      next: 'Remove one that is no longer there: minikeep node remove NAME',
    });
  if (!taken.has(wish)) return wish;
  for (let i = 2; ; i++) {
    const suffix = `-${i}`;
    const name = `${wish.slice(0, 63 - suffix.length)}${suffix}`;
    if (!taken.has(name)) return name;
  }
}

/** The node is a member from here on; `serial` is its first certificate's. */
export function addNode(
  { database, event }: Transaction,
  { name, keyDigest, nowMs }: Joining,
  certificate: { readonly serial: string; readonly notAfterMs: number },
  tokenId: string | undefined,
): void {
  database
    .prepare(
      `INSERT INTO nodes (name, key_digest, joined_at_ms) VALUES (?, ?, ?)
       ON CONFLICT (name) DO NOTHING`,
    )
    .run(name, keyDigest, nowMs);
  addCertificate(database, name, certificate);
  if (tokenId !== undefined)
    database
      .prepare(
        'UPDATE tokens SET used_at_ms = coalesce(used_at_ms, ?), used_by = ?, used_key_digest = ? WHERE id = ?',
      )
      .run(nowMs, name, keyDigest, tokenId);
  event('node.joined', {
    node: name,
    certificate: certificate.serial,
    ...(tokenId === undefined ? {} : { token: tokenId }),
  });
}

export function addCertificate(
  database: DatabaseSync,
  node: string,
  certificate: { readonly serial: string; readonly notAfterMs: number },
): void {
  database
    .prepare('INSERT INTO certificates (serial, node, not_after_ms) VALUES (?, ?, ?)')
    .run(certificate.serial, node, certificate.notAfterMs);
}

export function setAddresses(
  { database }: Transaction,
  node: string,
  addresses: readonly string[],
): void {
  database
    .prepare('UPDATE nodes SET addresses = ? WHERE name = ?')
    .run(JSON.stringify(addresses), node);
}

/** Shuts every certificate of the node out and forgets the node. Throws `node.unknown`. */
export function removeNode({ database, event }: Transaction, name: string, nowMs: number): void {
  const { changes } = database.prepare('DELETE FROM nodes WHERE name = ?').run(name);
  if (changes === 0)
    throw new MinikeepError('node.unknown', `there is no node ${name.slice(0, 80)}`, {
      next: 'See who is there with `minikeep nodes`.',
      exitCode: EXIT.usage,
    });
  // Those whose time is over need no list.
  database.prepare('DELETE FROM certificates WHERE not_after_ms < ?').run(nowMs);
  database.prepare('UPDATE cluster SET revocation_epoch = revocation_epoch + 1').run();
  database
    .prepare(
      `UPDATE certificates SET revoked_epoch = (SELECT revocation_epoch FROM cluster)
       WHERE node = ? AND revoked_epoch IS NULL`,
    )
    .run(name);
  event('node.removed', { node: name });
}

/** The certificates that are shut out and whose time is not over. */
export function revokedSerials(
  database: DatabaseSync,
  nowMs: number,
): { epoch: number; serials: string[] } {
  const rows = database
    .prepare(
      'SELECT serial FROM certificates WHERE revoked_epoch IS NOT NULL AND not_after_ms >= ? ORDER BY revoked_epoch DESC',
    )
    .all(nowMs) as unknown as { serial: string }[];
  return {
    epoch: readCluster(database)?.revocationEpoch ?? 0,
    serials: rows.map((row) => row.serial),
  };
}

/**
 * The database was brought back from a copy that is older than the cluster may be: nobody's open invitation counts any
 * more, and no list of revoked certificates from the time after the copy is taken for newer than the next one of ours.
 */
export function markRestored(
  { database, event }: Transaction,
  { made, epochs }: { readonly made: string; readonly epochs: number },
): void {
  database.prepare('DELETE FROM tokens').run();
  database.prepare('UPDATE cluster SET revocation_epoch = revocation_epoch + ?').run(epochs);
  event('cluster.restored', { backup_made: made });
}

/** Notes a certificate that a member uses and that a restored database has never heard of. */
export function noteCertificate(
  { database, event }: Transaction,
  node: string,
  certificate: { readonly serial: string; readonly notAfterMs: number },
): void {
  const { changes } = database
    .prepare(
      'INSERT INTO certificates (serial, node, not_after_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING',
    )
    .run(certificate.serial, node, certificate.notAfterMs);
  if (changes > 0) event('node.certificate_found', { node, certificate: certificate.serial });
}

export function knowsCertificate(database: DatabaseSync, serial: string): boolean {
  return database.prepare('SELECT 1 FROM certificates WHERE serial = ?').get(serial) !== undefined;
}
