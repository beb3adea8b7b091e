/**
 * What is wanted of deployments, and which nodes are out of service. What a placement says is the coordinator's
 * business: here it is JSON. Each function is one step inside the caller's transaction.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { Transaction } from './state.ts';

export interface DeploymentRow {
  readonly name: string;
  /** Of an imported model. */
  readonly model: string;
  readonly epoch: number;
  readonly wanted: 'up' | 'down';
  /** JSON. */
  readonly placement: string;
}

export function readDeployments(database: DatabaseSync): DeploymentRow[] {
  const rows = database.prepare(
    'SELECT name, model, epoch, wanted, placement FROM deployments ORDER BY name',
  );
  return rows.all() as unknown as DeploymentRow[];
}

/** Writes a row, and an event when more than its placement's details changed. The epoch never goes back. */
export function saveDeployment({ database, event }: Transaction, row: DeploymentRow): void {
  const { name, model, epoch, wanted, placement } = row;
  const before = database
    .prepare('SELECT epoch, wanted FROM deployments WHERE name = ?')
    .get(name) as { epoch: number; wanted: string } | undefined;
  if (before !== undefined && before.epoch > epoch)
    throw new Error(`epoch ${epoch} of ${name} after ${before.epoch}`);
  database
    .prepare(
      `INSERT INTO deployments (name, model, epoch, wanted, placement) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (name) DO UPDATE SET model = excluded.model, epoch = excluded.epoch,
         wanted = excluded.wanted, placement = excluded.placement`,
    )
    .run(name, model, epoch, wanted, placement);
  if (before?.wanted !== wanted) event('deployment.wanted', { name, model, wanted });
  if (wanted === 'up' && before?.epoch !== epoch) event('deployment.epoch', { name, epoch });
}

export function readDraining(database: DatabaseSync): Set<string> {
  const rows = database.prepare('SELECT name FROM nodes WHERE draining = 1').all();
  return new Set((rows as unknown as { name: string }[]).map(({ name }) => name));
}

export function saveDraining(
  { database, event }: Transaction,
  node: string,
  draining: boolean,
): void {
  const { changes } = database
    .prepare('UPDATE nodes SET draining = ? WHERE name = ? AND draining <> ?')
    .run(draining ? 1 : 0, node, draining ? 1 : 0);
  if (changes > 0) event(draining ? 'node.drained' : 'node.resumed', { node });
}
