/**
 * What the operator decided for the whole cluster, and which deployments are in quarantine. What a policy means is the
 * coordinator's business. Each function is one step inside the caller's transaction.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { Transaction } from './state.ts';

export interface QuarantinedRow {
  readonly deployment: string;
  readonly atMs: number;
  readonly node: string;
  readonly kind: string;
  readonly operation: string;
}

export function readPolicies(database: DatabaseSync): Map<string, string> {
  const rows = database.prepare('SELECT name, value FROM policies').all();
  return new Map(
    (rows as unknown as { name: string; value: string }[]).map(({ name, value }) => [name, value]),
  );
}

/** Nothing happens when it is decided so already. */
export function savePolicy({ database, event }: Transaction, name: string, value: string): void {
  const { changes } = database
    .prepare(
      `INSERT INTO policies (name, value) VALUES (?, ?)
       ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value <> excluded.value`,
    )
    .run(name, value);
  if (changes > 0) event('policy.changed', { policy: name, value });
}

export function readQuarantined(database: DatabaseSync): QuarantinedRow[] {
  const rows = database
    .prepare('SELECT deployment, at_ms AS atMs, node, kind, operation FROM quarantined')
    .all();
  return rows as unknown as QuarantinedRow[];
}

/** `seen`: what the engine had in its hands, for the log. */
export function saveQuarantined(
  { database, event }: Transaction,
  { deployment, atMs, node, kind, operation }: QuarantinedRow,
  seen: Readonly<Record<string, unknown>>,
): void {
  const { changes } = database
    .prepare('INSERT INTO quarantined VALUES (?, ?, ?, ?, ?) ON CONFLICT (deployment) DO NOTHING')
    .run(deployment, atMs, node, kind, operation);
  if (changes > 0) event('deployment.quarantined', { deployment, node, kind, operation, ...seen });
}

/** False: it was in none. */
export function liftQuarantine({ database, event }: Transaction, deployment: string): boolean {
  const { changes } = database
    .prepare('DELETE FROM quarantined WHERE deployment = ?')
    .run(deployment);
  if (changes > 0) event('quarantine.lifted', { deployment });
  return changes > 0;
}
