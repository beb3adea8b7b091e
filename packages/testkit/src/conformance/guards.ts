/** Takes one rule out of an architecture's row for a while: what a trap does when nothing guards against it. */
import { ARCHITECTURES, type ArchitectureRow } from '@minikeep/gguf';

type Change = { -readonly [K in keyof ArchitectureRow]?: ArchitectureRow[K] | undefined };

/** Runs `work` with the row changed; a field given as undefined is taken away. Not for tests that run at once. */
export async function withChangedRow<T>(
  name: string,
  change: Change,
  work: () => Promise<T>,
): Promise<T> {
  const rows = ARCHITECTURES as Map<string, ArchitectureRow>;
  const row = rows.get(name);
  if (row === undefined) throw new Error(`there is no architecture ${name}`);
  const changed = Object.fromEntries(
    Object.entries({ ...row, ...change }).filter(([, value]) => value !== undefined),
  );
  rows.set(name, changed as unknown as ArchitectureRow);
  try {
    return await work();
  } finally {
    rows.set(name, row);
  }
}
