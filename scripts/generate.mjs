// Makes packages/protocol/src/generated from proto/. Offline: buf and ts-proto come with the packages.
// Usage: node scripts/generate.mjs [OUT]   (OUT: another folder, for the test that compares)
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const OUT = path.resolve(process.argv[2] ?? path.join(ROOT, 'packages/protocol/src/generated'));
const HELPERS = new Set([
  'DeepPartial',
  'MessageFns',
  'ServerStreamingMethodResult',
  'protobufFileName',
  'protobufPackage',
]);
const BIN = path.join(ROOT, 'node_modules/.bin');

// buf finds the plugin, and the plugin its Node, by PATH.
const env = { ...process.env, PATH: `${BIN}${path.delimiter}${process.env.PATH ?? ''}` };
rmSync(OUT, { recursive: true, force: true });
mkdirSync(OUT, { recursive: true });
const template = {
  version: 'v2',
  inputs: [{ directory: path.join(ROOT, 'proto') }],
  plugins: [
    {
      local: path.join(BIN, 'protoc-gen-ts_proto'),
      out: OUT,
      opt: [
        'esModuleInterop=true',
        'importSuffix=.ts',
        'forceLong=number',
        'oneof=unions-value',
        // Node runs this code by stripping types: an enum would be code.
        'enumsAsLiterals=true',
        'unrecognizedEnum=false',
        'useExactTypes=false',
        'outputJsonMethods=false',
        'outputServices=nice-grpc',
        'outputServices=generic-definitions',
        'annotateFilesWithVersion=false',
      ],
    },
  ],
};
execFileSync(path.join(BIN, 'buf'), ['generate', '--template', JSON.stringify(template)], {
  cwd: ROOT,
  env,
  stdio: ['ignore', 'inherit', 'inherit'],
});
const folder = path.join(OUT, 'minikeep/v1');
const lines = readdirSync(folder)
  .filter((name) => name.endsWith('.ts'))
  .sort()
  .map((name) => exportsOf(name));
writeFileSync(
  path.join(OUT, 'v1.ts'),
  `// Made by scripts/generate.mjs: everything of minikeep.v1.\n${lines.join('\n')}\n`,
);

/** Each file also declares helpers of its own (DeepPartial …), so the names are listed one by one. */
function exportsOf(name) {
  const text = readFileSync(path.join(folder, name), 'utf8');
  const own = (names) => names.map((m) => m[1]).filter((n) => !HELPERS.has(n));
  const values = new Set(own([...text.matchAll(/^export const (\w+)/gm)]));
  const types = new Set(own([...text.matchAll(/^export (?:interface|type) (\w+)/gm)]));
  const listed = [...values, ...[...types].filter((n) => !values.has(n)).map((n) => `type ${n}`)];
  return `export {\n${listed.map((n) => `  ${n},\n`).join('')}} from './minikeep/v1/${name}';`;
}
