/** Finds the system's libraries the way the loader does, so that exactly those files are allowed. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { neededLibraries } from './elf.ts';

export const LOADER_CACHE = '/etc/ld.so.cache';
const CACHE_MAGIC = 'glibc-ld.so.cache1.1';
const CACHE_HEADER_BYTES = 48;
const CACHE_ENTRY_BYTES = 24;
const CACHE_BYTES_MAX = 16 * 1024 * 1024;
const CACHE_ENTRIES_MAX = 100_000;
const CLOSURE_FILES_MAX = 512;
const DEFAULT_FOLDERS = [
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib/aarch64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/lib64',
  '/usr/lib64',
  '/lib',
  '/usr/lib',
];

/** /etc/ld.so.cache in glibc's format since 2.2: soname → files. Empty when it is absent or another format. */
export function readLoaderCache(bytes: Buffer): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const start = bytes.indexOf(CACHE_MAGIC); // an older half may precede it
  if (start < 0 || bytes.length < start + CACHE_HEADER_BYTES) return found;
  const cache = bytes.subarray(start);
  const count = Math.min(cache.readUInt32LE(20), CACHE_ENTRIES_MAX);
  const text = (at: number): string => {
    const end = cache.indexOf(0, at);
    return end < 0 ? '' : cache.toString('utf8', at, end);
  };
  for (let i = 0; i < count; i++) {
    const at = CACHE_HEADER_BYTES + i * CACHE_ENTRY_BYTES;
    if (at + CACHE_ENTRY_BYTES > cache.length) break;
    const name = text(cache.readUInt32LE(at + 4));
    const file = text(cache.readUInt32LE(at + 8));
    if (name !== '' && file.startsWith('/')) found.set(name, [...(found.get(name) ?? []), file]);
  }
  return found;
}

export interface LibraryClosure {
  /** Paths under which the loader may open a needed library; each exists. */
  readonly files: readonly string[];
  /** Every soname that is asked for. */
  readonly names: ReadonlySet<string>;
  /** Where the loader looks; it also tries places that do not exist. */
  readonly folders: ReadonlySet<string>;
}

/** Everything that the given ELF files need, their own folders (`library_dir`) first. */
export function libraryClosure(
  roots: readonly string[],
  libraryDirs: readonly string[],
): LibraryClosure {
  const cacheFile = existsSync(LOADER_CACHE) && statSync(LOADER_CACHE).size <= CACHE_BYTES_MAX;
  const cache = cacheFile
    ? readLoaderCache(readFileSync(LOADER_CACHE))
    : new Map<string, string[]>();
  const folders = new Set([...libraryDirs, ...DEFAULT_FOLDERS]);
  for (const files of cache.values()) for (const file of files) folders.add(path.dirname(file));
  const files = new Set<string>();
  const names = new Set<string>();
  const queue = [...roots];
  while (queue.length > 0 && files.size <= CLOSURE_FILES_MAX) {
    const file = queue.pop() ?? '';
    for (const name of neededLibraries(file)) {
      if (names.has(name) || name.includes('/')) continue;
      names.add(name);
      const candidates = [
        ...[...libraryDirs, ...DEFAULT_FOLDERS].map((folder) => path.join(folder, name)),
        ...(cache.get(name) ?? []),
      ];
      for (const candidate of candidates)
        if (!files.has(candidate) && existsSync(candidate)) {
          files.add(candidate);
          queue.push(candidate);
        }
    }
  }
  return { files: [...files], names, folders };
}
