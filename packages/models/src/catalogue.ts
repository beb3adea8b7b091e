/** The rows of imported models. Every function runs inside a transaction of the caller or on one state of the database. */
import type { DatabaseSync } from 'node:sqlite';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { Transaction } from '@minikeep/state';

/** Nobody has more; every list is bounded. */
export const MODELS_MAX = 1_000;

export interface ModelRow {
  readonly name: string;
  /** SHA-256 of the file, or of all parts in order; lower-case hex. */
  readonly sha256: string;
  /** Of the file, or the first part; absolute. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly architecture: string;
  readonly importedAtMs: number;
}

interface Row {
  readonly name: string;
  readonly digest: Uint8Array;
  readonly path: string;
  readonly size_bytes: number;
  readonly architecture: string;
  readonly imported_at_ms: number;
}

const fromRow = (row: Row): ModelRow => ({
  name: row.name,
  sha256: Buffer.from(row.digest).toString('hex'),
  path: row.path,
  sizeBytes: row.size_bytes,
  architecture: row.architecture,
  importedAtMs: row.imported_at_ms,
});

export function listModels(database: DatabaseSync): ModelRow[] {
  const rows = database.prepare('SELECT * FROM models ORDER BY name LIMIT ?').all(MODELS_MAX);
  return (rows as unknown as Row[]).map(fromRow);
}

/** Throws `model.unknown` with the names that there are. */
export function findModel(database: DatabaseSync, name: string): ModelRow {
  const row = database.prepare('SELECT * FROM models WHERE name = ?').get(name);
  if (row !== undefined) return fromRow(row as unknown as Row);
  const names = listModels(database).map((model) => model.name);
  throw new MinikeepError('model.unknown', `the cluster knows no model "${name.slice(0, 80)}"`, {
    next:
      names.length === 0
        ? 'Import one with `minikeep model import FILE`.'
        : `Known are: ${names.slice(0, 20).join(', ')}. Import another with \`minikeep model import FILE\`.`,
    exitCode: EXIT.usage,
  });
}

/**
 * Adds the model. The same content under the same name again is no fault: the path is then the new one, so that a model
 * whose disk moved is imported again. Throws `model.exists`, `model.too_many`.
 */
export function addModel({ database, event }: Transaction, row: ModelRow): void {
  const models = listModels(database);
  const before = models.find((model) => model.name === row.name);
  checkNameFree(models, row);
  if (before === undefined && models.length >= MODELS_MAX)
    throw new MinikeepError('model.too_many', `the cluster knows ${MODELS_MAX} models already`, {
      next: 'Remove one with `minikeep model rm NAME`.',
    });
  database
    .prepare(
      `INSERT INTO models (name, digest, path, size_bytes, architecture, imported_at_ms)
       VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (name) DO UPDATE SET path = excluded.path, imported_at_ms = excluded.imported_at_ms`,
    )
    .run(
      row.name,
      Buffer.from(row.sha256, 'hex'),
      row.path,
      row.sizeBytes,
      row.architecture,
      row.importedAtMs,
    );
  event('model.imported', { name: row.name, sha256: row.sha256, path: row.path });
}

/** Throws `model.exists` when the name stands for another content. */
export function checkNameFree(
  models: readonly ModelRow[],
  { name, sha256 }: Pick<ModelRow, 'name' | 'sha256'>,
): void {
  const before = models.find((model) => model.name === name);
  if (before === undefined || before.sha256 === sha256) return;
  throw new MinikeepError(
    'model.exists',
    `there is another model called ${name} (SHA-256 ${before.sha256.slice(0, 12)}…)`,
    {
      next: `Give this one another name with --name, or remove that one: minikeep model rm ${name}`,
      exitCode: EXIT.usage,
    },
  );
}

/** Removes the row; returns it. Throws `model.unknown`, `model.in_use` while a deployment names it. */
export function removeModel({ database, event }: Transaction, name: string): ModelRow {
  const row = findModel(database, name);
  const users = database
    .prepare("SELECT name, wanted FROM deployments WHERE model = ? AND wanted = 'up' LIMIT 1")
    .get(name) as { name: string } | undefined;
  if (users !== undefined)
    throw new MinikeepError('model.in_use', `${name} is up (deployment ${users.name})`, {
      next: `Take it down first: minikeep down ${users.name}`,
      exitCode: EXIT.usage,
    });
  // What is wanted down only remembers where it ran.
  database.prepare('DELETE FROM deployments WHERE model = ?').run(name);
  database.prepare('DELETE FROM models WHERE name = ?').run(name);
  event('model.removed', { name, sha256: row.sha256 });
  return row;
}
