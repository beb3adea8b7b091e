/**
 * Which user an engine becomes when minikeep runs as root: engines never run as root, and each gets a user of its
 * own, so that one can't signal or trace another.
 */
import { readFileSync, readdirSync } from 'node:fs';

/** The range that systemd sets aside for users that exist only while a program runs. */
export const ENGINE_UID_FIRST = 61_184;
export const ENGINE_UID_LAST = 65_519;
/** "nobody": shared, so only where the namespace maps nothing better. */
export const FALLBACK_UID = 65_534;

export interface IdMap {
  readonly first: number;
  readonly count: number;
}

/** /proc/self/uid_map: inside, outside, count. */
export function parseIdMap(text: string): IdMap[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(
      (row): row is [number, number, number] => row.length === 3 && row.every(Number.isSafeInteger),
    )
    .map(([first, , count]) => ({ first, count }));
}

/**
 * Users to try, best first. `start` (any number) spreads engines over the range; `used` are taken by
 * running processes or by the system's list of users.
 */
export function uidCandidates(
  maps: { readonly uid: readonly IdMap[]; readonly gid: readonly IdMap[] },
  used: ReadonlySet<number>,
  start: number,
): number[] {
  const inside = (ranges: readonly IdMap[], id: number): boolean =>
    ranges.some(({ first, count }) => id >= first && id < first + count);
  const mapped = (id: number): boolean => inside(maps.uid, id) && inside(maps.gid, id);
  const size = ENGINE_UID_LAST - ENGINE_UID_FIRST + 1;
  const candidates: number[] = [];
  for (let i = 0; i < size && candidates.length < 8; i++) {
    const id = ENGINE_UID_FIRST + ((start + i) % size);
    if (mapped(id) && !used.has(id)) candidates.push(id);
  }
  return mapped(FALLBACK_UID) ? [...candidates, FALLBACK_UID] : candidates;
}

/** Users of the machine's processes and of its passwd file. What can't be read is skipped: it ends between two looks. */
export function usedUids(): Set<number> {
  const used = new Set<number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const uid = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${entry}/status`, 'utf8'))?.[1];
      if (uid !== undefined) used.add(Number(uid));
    } catch {
      continue;
    }
  }
  try {
    for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
      const uid = line.split(':')[2];
      if (uid !== undefined && uid !== '') used.add(Number(uid));
    }
  } catch {
    return used;
  }
  return used;
}

export function machineUidCandidates(start: number): number[] {
  const map = (kind: string): IdMap[] => parseIdMap(readFileSync(`/proc/self/${kind}_map`, 'utf8'));
  return uidCandidates({ uid: map('uid'), gid: map('gid') }, usedUids(), start);
}
