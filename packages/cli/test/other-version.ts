/** This checkout's programs as another version of minikeep would be: the built ones, with other numbers in them. */
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { writeProgramDigests } from '@minikeep/bundle';
import { DIST } from './cluster-helpers.ts';

/** Makes `folder`; returns the arguments that start `minikeep` of that version. */
export function otherVersion(
  folder: string,
  { version, protocol }: { readonly version: string; readonly protocol: number },
): readonly string[] {
  mkdirSync(path.join(folder, 'lib'), { recursive: true });
  let changed = 0;
  for (const name of readdirSync(DIST, { recursive: true, encoding: 'utf8' })) {
    const [from, to] = [path.join(DIST, name), path.join(folder, name)];
    if (name.endsWith('.mjs')) {
      const before = readFileSync(from, 'utf8');
      const text = before
        .replace(/MINIKEEP_VERSION = "[\d.]+"/, `MINIKEEP_VERSION = "${version}"`)
        .replace(/PROTOCOL_VERSION = \d+/, `PROTOCOL_VERSION = ${protocol}`);
      if (text.split(`PROTOCOL_VERSION = ${protocol};`).length > 1) changed += 1;
      writeFileSync(to, text);
    } else if (name !== 'lib') link(from, to);
  }
  // Agent, coordinator, and a piece of the command line.
  if (changed !== 3) throw new Error(`the programs look different: ${changed}`);
  writeProgramDigests(folder);
  return [process.execPath, path.join(folder, 'minikeep.mjs')];
}

function link(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    copyFileSync(from, to); // another disk
  }
}
