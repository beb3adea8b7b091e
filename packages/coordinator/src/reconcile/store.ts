/** Where what is wanted is kept. Passed in: a throw-away cluster keeps it in memory, a lasting one in its home. */
import type { WantedDeployment } from './types.ts';

export interface WantedChanges {
  readonly rows: readonly WantedDeployment[];
  readonly draining: ReadonlyMap<string, boolean>;
}

export interface WantedStore {
  /** It outlives the coordinator, so engines may as well. */
  readonly lasting: boolean;
  rows(): readonly WantedDeployment[];
  drainingNodes(): ReadonlySet<string>;
  /** All or nothing; kept, whatever happens, when it returns. Throws when it can't be. */
  save(changes: WantedChanges): void;
}

/** For a cluster that ends with its coordinator. */
export function memoryStore(): WantedStore {
  const rows = new Map<string, WantedDeployment>();
  const draining = new Set<string>();
  return {
    lasting: false,
    rows: () => [...rows.values()],
    drainingNodes: () => draining,
    save(changes) {
      for (const row of changes.rows) rows.set(row.name, row);
      for (const [node, on] of changes.draining) {
        if (on) draining.add(node);
        else draining.delete(node);
      }
    },
  };
}
