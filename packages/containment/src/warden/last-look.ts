/** What an engine had in its hands when it was stopped: its memory map without contents, its open files. Bounded. */
import { escapeText } from './escape.ts';

const ENTRIES_MAX = 200;
const ENTRY_LENGTH_MAX = 300;
/** One line of /proc/PID/maps: range, rights, offset, device, inode, path. */
const MAPPING = /^([\da-f]+)-([\da-f]+) (\S{4}) \S+ \S+ \S+ *(.*)$/;

export interface LastLook {
  /** `rw-p 12582912 bytes anonymous`, the same file and rights together. */
  readonly mapped: readonly string[];
  /** `3 pipe:[4242]` */
  readonly open: readonly string[];
}

export const NOTHING_SEEN: LastLook = { mapped: [], open: [] };

/** `maps`: as the kernel prints it. */
export function mappedFrom(maps: string): string[] {
  const sizes = new Map<string, number>();
  for (const line of maps.split('\n')) {
    const [, begin = '', end = '', rights = '', path = ''] = MAPPING.exec(line) ?? [];
    if (rights === '') continue;
    const key = `${rights} ${path === '' ? 'anonymous' : path}`;
    const bytes = Number(BigInt(`0x${end}`) - BigInt(`0x${begin}`));
    sizes.set(key, (sizes.get(key) ?? 0) + bytes);
  }
  return bounded(
    [...sizes].map(([key, bytes]) => `${key.slice(0, 4)} ${bytes} bytes ${key.slice(5)}`),
  );
}

/** `links`: number of the descriptor, and where it leads. */
export const openFrom = (links: readonly (readonly [string, string])[]): string[] =>
  bounded(links.map(([number, target]) => `${number} ${target}`));

function bounded(lines: readonly string[]): string[] {
  const kept = lines.slice(0, ENTRIES_MAX).map((text) => escapeText(text, ENTRY_LENGTH_MAX));
  const left = lines.length - kept.length;
  return left > 0 ? [...kept, `and ${left} more`] : kept;
}
