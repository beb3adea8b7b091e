// How our programs are bundled: one file each, with koffi's native half beside it. For build.mjs and for the bench's own program.
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/** koffi searches several places for its native half; in a bundle it lies beside the program, and nowhere else. */
const koffiBesideBundle = {
  name: 'koffi-beside-bundle',
  setup(b) {
    b.onResolve({ filter: /^koffi$/ }, () => ({ path: 'koffi', namespace: 'koffi' }));
    b.onLoad({ filter: /.*/, namespace: 'koffi' }, () => ({
      contents: `import { createRequire } from 'node:module';
        const native = createRequire(import.meta.url)('./koffi.node');
        export default native;`,
      resolveDir: ROOT,
    }));
  },
};

export const BUNDLE_OPTIONS = {
  metafile: true,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  target: 'node26',
  format: 'esm',
  sourcemap: false,
  legalComments: 'none',
  logLevel: 'warning',
  absWorkingDir: ROOT,
  plugins: [koffiBesideBundle],
  // Bundled CommonJS packages (grpc-js) ask for require, __dirname and __filename.
  banner: {
    js: `import { createRequire as __minikeepRequire } from 'node:module'; const require = __minikeepRequire(import.meta.url);`,
  },
};
