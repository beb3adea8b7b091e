// npm run bench: what a split over nodes, the sandbox and the network cost. All figures of one part come from one run on
// one machine: arrangements take turns in rounds, ratios are made round by round, and medians are shown with the middle
// half, so that the machine's noise falls on all alike and stays in view. Claims are printed as met or not met; the exit
// status says only whether everything could be measured.
//   --only decode,prompt,warden,start,memory,transfer   --quick (a tiny model, once: does it run?)   --json
//   --model FILE (default: a random qwen2 of 0.5 B, Q8_0)   --nodes 2,3,4   --threads N   --rounds N   --tokens N a round
//   --prompt N tokens   --prompt-rounds N   --pairs N   --start-rounds N   --transfer-rounds N
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openModel } from '../packages/gguf/src/index.ts';
import { benchModelFile, randomModelFile } from '../packages/testkit/src/index.ts';
import { decodeBench } from './bench/decode.mjs';
import { atEnd } from './bench/ending.mjs';
import { memoryBench } from './bench/memory.mjs';
import { reportLines } from './bench/print.mjs';
import { promptBench } from './bench/prompt.mjs';
import { startBench } from './bench/start.mjs';
import { transferBench } from './bench/transfer.mjs';
import { wardenBench } from './bench/warden.mjs';

const PARTS = {
  decode: decodeBench,
  prompt: promptBench,
  warden: wardenBench,
  start: startBench,
  memory: memoryBench,
  transfer: transferBench,
};
const FULL = {
  nodes: '2,3,4',
  // What minikeep itself takes: half of the cores.
  threads: String(Math.max(1, Math.floor(availableParallelism() / 2))),
  rounds: '12',
  tokens: '24',
  prompt: '2048',
  'prompt-rounds': '3',
  pairs: '40',
  'start-rounds': '5',
  'transfer-rounds': '9',
};
const QUICK = {
  nodes: '2',
  threads: '1',
  rounds: '2',
  tokens: '6',
  prompt: '300',
  'prompt-rounds': '1',
  pairs: '2',
  'start-rounds': '1',
  'transfer-rounds': '2',
};
/** Stages of the parts that are measured with one number of them only. */
const STAGES = 3;

if (process.platform !== 'linux') {
  process.stderr.write(
    'error bench.platform: the bench reads /proc and pins processes to cores, so it runs on Linux only\n' +
      '  next: measure on Linux x86-64\n',
  );
  process.exit(1);
}

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    only: { type: 'string', default: Object.keys(PARTS).join(',') },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    ...Object.fromEntries(Object.keys(FULL).map((name) => [name, { type: 'string' }])),
  },
});

function usage(problem) {
  process.stderr.write(
    `error usage.bench: ${problem}\n  next: read the top of scripts/bench.mjs\n`,
  );
  process.exit(2);
}
const chosen = { ...(flags.quick ? QUICK : FULL), ...flags };
const count = (name) => {
  const value = Number(chosen[name]);
  if (!Number.isSafeInteger(value) || value < 1) usage(`--${name} is a whole number above 0`);
  return value;
};
const only = flags.only.split(',');
for (const part of only) if (!(part in PARTS)) usage(`there is no part ${JSON.stringify(part)}`);
const nodes = chosen.nodes.split(',').map(Number);
if (!nodes.every((n) => Number.isSafeInteger(n) && n >= 2)) usage('--nodes are numbers from 2');

const settings = {
  threads: count('threads'),
  rounds: count('rounds'),
  tokens: Math.max(3, count('tokens')),
};
const log = (line) => process.stderr.write(`${line}\n`);
const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-bench-'));
atEnd(() => rmSync(folder, { recursive: true, force: true }));

async function chooseModel() {
  if (flags.model !== undefined) return path.resolve(flags.model);
  return flags.quick ? await randomModelFile('qwen2', { weights: 'Q8_0' }) : await benchModelFile();
}

const file = await chooseModel();
const common = { model: await openModel(file), file, folder, log, ...settings, stages: STAGES };
const options = {
  decode: { nodes },
  prompt: { rounds: count('prompt-rounds'), tokens: count('prompt') },
  warden: { pairs: count('pairs') },
  start: { rounds: count('start-rounds') },
  memory: {},
  transfer: { rounds: count('transfer-rounds') },
};
const report = {
  model: path.basename(file),
  machine: {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? '',
    load: loadavg().map((value) => Number(value.toFixed(1))),
  },
  settings,
  claims: [],
};
for (const part of Object.keys(PARTS)) {
  if (!only.includes(part)) continue;
  const { claims = [], ...measured } = await PARTS[part]({ ...common, ...options[part] });
  report[part] = measured;
  report.claims.push(...claims);
}
const lines = flags.json ? [JSON.stringify(report)] : reportLines(report);
process.stdout.write(`${lines.join('\n')}\n`);
