/**
 * The digests of what a build made, beside it. A build writes its own: a program that differs was changed after it was
 * built, and that is all this says of a checkout. What came from outside (Node, koffi, llama.cpp) is in pins.json.
 * Stands on Node alone, for the build imports it.
 */
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export const PROGRAM_DIGESTS = 'digests.json';

/** Of `dist/`: what is started or loaded, and neither from outside nor a note of the build. */
export const isOwnProgram = (name: string): boolean => /^[\w.-]+\.mjs$/.test(name);

export function writeProgramDigests(distFolder: string): void {
  const digests = Object.fromEntries(
    readdirSync(distFolder)
      .filter(isOwnProgram)
      .toSorted()
      .map((name) => {
        const content = readFileSync(path.join(distFolder, name));
        return [name, createHash('sha256').update(content).digest('hex')];
      }),
  );
  const file = path.join(distFolder, PROGRAM_DIGESTS);
  // Never through a link into another build.
  rmSync(file, { force: true });
  writeFileSync(file, `${JSON.stringify(digests, null, 2)}\n`);
}
