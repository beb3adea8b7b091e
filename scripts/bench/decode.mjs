// Single-stream decode: what a split over nodes costs beside the whole model in one engine and beside the same split in
// one process, and what the warden costs.
import { layersToCut } from '../../packages/gguf/src/index.ts';
import { sandboxPlatform } from '../../packages/containment/src/index.ts';
import { directPlatform } from '../../packages/testkit/src/index.ts';
import { claim, pairedRatio, quantile, spread } from './figures.mjs';
import { engineLine, nodesLine, oneProcessLine, stageFiles } from './lines.mjs';
import { cpuSeconds, familyOf, peakMemoryMiB, programOf } from './processes.mjs';

export const BASE = 'whole';
const UNSANDBOXED = 'whole, no sandbox';
const ONE_PROCESS = 'in one process';
/** Of the design: at 3 nodes, of the base and of the same split in one process; milliseconds a hop. */
const OF_WHOLE_MIN = 0.92;
const OF_ONE_PROCESS_MIN = 0.97;
const HOP_MILLISECONDS_MAX = 0.2;
const WARDEN_SHARE_MAX = 0.02;
const TRUSTED_MIB_MAX = 150;

/** Loads every arrangement, lets them take turns in `rounds`, `tokens` tokens each time. */
export async function decodeBench({ model, file, folder, rounds, tokens, threads, nodes, log }) {
  const context = { n_ctx: 1024, n_batch: 64, n_seq_max: 1, mode: 'exact', threads, gpu: false };
  const layers = layersToCut(model);
  const lines = [];
  const add = async (name, stages, start) => {
    log(`loading: ${name}`);
    lines.push({ name, stages, line: await start(), rounds: [], beyond: [] });
  };
  try {
    const whole = await stageFiles(model, file, 1, folder);
    await add(BASE, 1, () => engineLine(whole, sandboxPlatform(), context));
    await add(UNSANDBOXED, 1, () => engineLine(whole, directPlatform(), context));
    for (const stages of nodes) {
      const files = await stageFiles(model, file, stages, folder);
      await add(`${stages} stages ${ONE_PROCESS}`, stages, () => oneProcessLine(files, context));
      await add(`${stages} nodes`, stages, () => nodesLine(file, layers, stages, context, folder));
    }
    for (const { line } of lines) await line.decode(tokens);
    const wardens = lines.flatMap(({ line }) => wardensOf(line));
    const before = wardens.map(cpuSeconds);
    const began = performance.now();
    for (let round = 0; round < rounds; round++) {
      log(`decode: round ${round + 1} of ${rounds}`);
      // Each time another one is first, so that none always follows the same.
      for (let i = 0; i < lines.length; i++) {
        const entry = lines[(i + round) % lines.length];
        const { milliseconds, beyondComputing } = await entry.line.decode(tokens);
        entry.rounds[round] = quantile(milliseconds, 0.5);
        entry.beyond[round] = beyondComputing;
      }
    }
    const seconds = (performance.now() - began) / 1000;
    const wardenSeconds = wardens.reduce((sum, pid, i) => sum + cpuSeconds(pid) - before[i], 0);
    return {
      table: lines.map((entry) => row(entry, lines)),
      warden_share_of_cpu: wardenSeconds / seconds,
      trusted: lines.flatMap(({ name, line }) => trustedOf(name, line)),
      claims: claims(lines, wardenSeconds / seconds),
    };
  } finally {
    await Promise.allSettled(lines.map(({ line }) => line.stop()));
  }
}

function row(entry, lines) {
  const of = (name) => lines.find((line) => line.name === name);
  const inOne = of(`${entry.stages} stages ${ONE_PROCESS}`);
  return {
    arrangement: entry.name,
    milliseconds_a_token: spread(entry.rounds),
    speed_of_whole: pairedRatio(of(BASE).rounds, entry.rounds),
    ...(entry.line.cluster === undefined
      ? {}
      : {
          speed_of_one_process: pairedRatio(inOne.rounds, entry.rounds),
          milliseconds_a_hop: spread(entry.beyond.map((ms) => ms / (entry.stages + 1))),
        }),
  };
}

function claims(lines, wardenShare) {
  const rows = lines.map((entry) => row(entry, lines));
  const of = (name) => rows.find((r) => r.arrangement === name);
  const three = of('3 nodes');
  const list = [
    claim('3 nodes, of the whole', three?.speed_of_whole.median, { atLeast: OF_WHOLE_MIN }),
    claim('3 nodes, of 3 stages in one process', three?.speed_of_one_process.median, {
      atLeast: OF_ONE_PROCESS_MIN,
    }),
    claim('milliseconds a hop beyond computing, 3 nodes', three?.milliseconds_a_hop.median, {
      atMost: HOP_MILLISECONDS_MAX,
    }),
    claim('cost of the sandbox on decoding', of(UNSANDBOXED).speed_of_whole.median - 1, {
      atMost: WARDEN_SHARE_MAX,
    }),
    claim("the wardens' own share of a core", wardenShare, { atMost: WARDEN_SHARE_MAX }),
  ];
  return three === undefined ? list.slice(3) : list;
}

const wardensOf = ({ cluster }) =>
  (cluster?.nodes ?? [])
    .flatMap(({ pid }) => familyOf(pid))
    .filter((pid) => programOf(pid) === 'warden');

/** The processes that are not the engine's, and the most memory that each of them ever had. */
function trustedOf(name, { cluster }) {
  if (cluster === undefined) return [];
  const pids = [cluster.coordinator.pid, ...cluster.nodes.flatMap(({ pid }) => familyOf(pid))];
  return pids
    .map((pid) => ({ in: name, program: programOf(pid), peak_mib: peakMemoryMiB(pid) }))
    .filter(({ program }) => ['coordinator', 'agent', 'warden'].includes(program))
    .map((entry) => ({ ...entry, ...claim('MiB', entry.peak_mib, { atMost: TRUSTED_MIB_MAX }) }));
}
