// A bench's own program, bundled as ours are, in a folder of its own: beside ours it would be a program that nobody
// listed, and nothing would start until the next build.
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from 'esbuild';
import { BUNDLE_OPTIONS } from '../bundle-options.mjs';
import { ROOT } from '../setup.mjs';
import { atEnd } from './ending.mjs';

/** The bundle of `source` (inside the repository); gone when this process ends. */
export async function benchProgram(source) {
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-bench-'));
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  await build({
    ...BUNDLE_OPTIONS,
    entryPoints: { program: path.join(ROOT, source) },
    outdir: folder,
  });
  symlinkSync(path.join(ROOT, 'dist/koffi.node'), path.join(folder, 'koffi.node'));
  return path.join(folder, 'program.mjs');
}
