// npm run bench: what a split over nodes, the sandbox and the network cost. All figures of one table come from one run on
// one machine: arrangements take turns in rounds, ratios are made round by round, and medians are shown with the middle
// half, so that the machine's noise falls on all alike and stays in view. Claims are printed as met or not met.
//   --model FILE (default: a random qwen2 of 0.5 B, Q8_0)   --only decode,prompt,start   --json
//   --rounds N   --tokens N a round   --threads N   --nodes 2,3,4   --prompt N tokens   --prompt-rounds N
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openModel } from '../packages/gguf/src/index.ts';
import { benchModelFile } from '../packages/testkit/src/index.ts';
import { decodeBench } from './bench/decode.mjs';
import { machineNoise, text } from './bench/figures.mjs';
import { promptBench } from './bench/prompt.mjs';
import { startBench } from './bench/start.mjs';

const { values: flags } = parseArgs({
  options: {
    model: { type: 'string' },
    only: { type: 'string', default: 'decode,prompt,start' },
    rounds: { type: 'string', default: '12' },
    tokens: { type: 'string', default: '24' },
    threads: { type: 'string', default: '2' },
    nodes: { type: 'string', default: '2,3,4' },
    prompt: { type: 'string', default: '2048' },
    'prompt-rounds': { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});
const [rounds, tokens, threads] = [flags.rounds, flags.tokens, flags.threads].map(Number);
const nodes = flags.nodes.split(',').map(Number);
const wanted = (part) => flags.only.split(',').includes(part);
const log = (line) => process.stderr.write(`${line}\n`);
const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-bench-'));

function print(report) {
  const out = (line) => process.stdout.write(`${line}\n`);
  const { machine, decode, prompt, start } = report;
  out(`${report.model}; ${machine.cores} cores, ${machine.cpu}; load ${machine.load.join(' ')}`);
  out(`a fixed loop takes ${text(machine.fixed_loop_milliseconds, 2)} ms: that much is noise`);
  out('median (middle half)');
  if (decode !== undefined) {
    out(`\ndecode, one stream, ${threads} threads a stage, ${rounds} rounds of ${tokens} tokens`);
    for (const r of decode.table) {
      const { speed_of_one_process: inOne, milliseconds_a_hop: hop } = r;
      out(
        `  ${r.arrangement.padEnd(26)}${text(r.milliseconds_a_token, 2)} ms, ${text(r.speed_of_whole, 3)} of the whole` +
          (inOne === undefined ? '' : `, ${text(inOne, 3)} of one process`) +
          (hop === undefined ? '' : `, ${text(hop, 3)} ms a hop`),
      );
    }
    out('\nmost memory that a trusted process ever had');
    for (const program of ['coordinator', 'agent', 'warden']) {
      const peaks = decode.trusted.filter((t) => t.program === program).map((t) => t.peak_mib);
      if (peaks.length > 0) out(`  ${program.padEnd(26)}${Math.max(...peaks).toFixed(0)} MiB`);
    }
  }
  if (prompt !== undefined)
    out(
      `\nprompt of ${prompt.tokens} tokens\n` +
        `  whole, one core           ${text(prompt.seconds_whole_on_one_core, 2)} s\n` +
        `  2 nodes, a core each      ${text(prompt.seconds_two_nodes_on_two, 2)} s, ${text(prompt.speedup, 2)} times as fast`,
    );
  if (start !== undefined)
    out(
      `\nfrom the command to the first token, ${start.stages} nodes, slices cached: ${text(start.seconds_to_first_token, 2)} s`,
    );
  out('');
  for (const { what, measured, at_least, at_most, met } of report.claims)
    out(
      `  ${met ? 'met    ' : 'NOT MET'} ${what}: ${measured.toFixed(3)} ` +
        (at_least === undefined ? `(at most ${at_most})` : `(at least ${at_least})`),
    );
}

try {
  const file = flags.model ? path.resolve(flags.model) : await benchModelFile();
  const model = await openModel(file);
  const machine = {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? '',
    load: loadavg().map((value) => Number(value.toFixed(1))),
    fixed_loop_milliseconds: machineNoise(),
  };
  const common = { model, file, folder, log };
  const decode = wanted('decode')
    ? await decodeBench({ ...common, rounds, tokens, threads, nodes })
    : undefined;
  const prompt = wanted('prompt')
    ? await promptBench({
        ...common,
        rounds: Number(flags['prompt-rounds']),
        tokens: Number(flags.prompt),
      })
    : undefined;
  const start = wanted('start') ? await startBench({ ...common, rounds: 5, stages: 3 }) : undefined;
  const claims = [...(decode?.claims ?? []), ...(prompt?.claims ?? [])];
  const trusted = (decode?.trusted ?? []).toSorted((a, b) => b.peak_mib - a.peak_mib)[0];
  if (trusted !== undefined)
    claims.push({
      what: `most memory of a trusted process (${trusted.program}), MiB`,
      measured: trusted.peak_mib,
      at_most: trusted.at_most,
      met: trusted.met,
    });
  const report = { model: path.basename(file), machine, threads, decode, prompt, start, claims };
  if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else print(report);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
