/** What the kernel tells of an engine that is about to be killed. */
import { readdirSync, readlinkSync } from 'node:fs';
import { type LastLook, mappedFrom, openFrom } from '../warden/last-look.ts';

/** What can't be read is left out: the engine is stopped all the same. */
export function lastLook(pid: number, maps: () => string): LastLook {
  return { mapped: mappedFrom(tried(maps, '')), open: openFrom(tried(() => linksOf(pid), [])) };
}

function linksOf(pid: number): [string, string][] {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).map((name) => [
    name,
    tried(() => readlinkSync(`${folder}/${name}`), 'unreadable'),
  ]);
}

function tried<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
