// Single-stream decode: what a split over nodes costs beside the whole model in one engine and beside the same split in
// one process.
import { describeModel } from '../../packages/gguf/src/index.ts';
import { sandboxPlatform } from '../../packages/containment/src/index.ts';
import { claim, pairedRatio, quantile, spread } from './figures.mjs';
import { transportFloor } from './floor.mjs';
import { engineLine, filesOf, nodesLine, oneProcessLine } from './lines.mjs';
import { watchNoise } from './noise.mjs';

export const BASE = 'whole';
const ONE_PROCESS = 'in one process';
/** Rows travel as F32; the head of a frame is about this long. */
const BYTES_A_VALUE = 4;
const FRAME_HEAD_BYTES = 100;
/** Of the design: at 3 nodes, of the base and of the same split in one process; milliseconds a hop. */
const OF_WHOLE_MIN = 0.92;
const OF_ONE_PROCESS_MIN = 0.97;
const HOP_MILLISECONDS_MAX = 0.2;

/** Loads every arrangement, lets them take turns in `rounds`, `tokens` tokens each time. */
export async function decodeBench({ model, folder, rounds, tokens, threads, nodes, log }) {
  const context = { n_ctx: 1024, n_batch: 64, n_seq_max: 1, mode: 'exact', threads, gpu: false };
  const lines = [];
  const add = async (name, stages, start) => {
    log(`loading: ${name}`);
    lines.push({ name, stages, line: await start(), rounds: [], beyond: [], stageTimes: [] });
  };
  try {
    const whole = await filesOf(model, 1, folder);
    await add(BASE, 1, () => engineLine(whole, sandboxPlatform(), context));
    for (const stages of nodes) {
      const files = await filesOf(model, stages, folder);
      await add(`${stages} stages ${ONE_PROCESS}`, stages, () => oneProcessLine(files, context));
      await add(`${stages} nodes`, stages, () => nodesLine(model, stages, context, folder));
    }
    for (const { line } of lines) await line.decode(tokens);
    const noise = watchNoise();
    for (let round = 0; round < rounds; round++) {
      log(`decode: round ${round + 1} of ${rounds}`);
      // Each time another one is first, so that none always follows the same.
      for (let i = 0; i < lines.length; i++) {
        const entry = lines[(i + round) % lines.length];
        const { milliseconds, beyondComputing, stageMilliseconds } =
          await entry.line.decode(tokens);
        entry.rounds[round] = quantile(milliseconds, 0.5);
        entry.beyond[round] = beyondComputing;
        entry.stageTimes[round] = stageMilliseconds;
      }
      noise.tick();
    }
    const table = lines.map((entry) => row(entry, lines));
    const report = noise.report();
    log('decode: what a frame takes without minikeep');
    const frame = describeModel(model).embedding_length * BYTES_A_VALUE + FRAME_HEAD_BYTES;
    return { noise: report, table, floor: await transportFloor(frame), claims: claims(table) };
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
          stages_milliseconds: Array.from({ length: entry.stages }, (_, stage) =>
            spread(entry.stageTimes.map((times) => times[stage])),
          ),
        }),
  };
}

/** The design's claims are about three nodes. */
function claims(table) {
  const three = table.find((entry) => entry.arrangement === '3 nodes');
  if (three === undefined) return [];
  const about = (what, { median, interval }, limit) => claim(what, median, { ...limit, interval });
  return [
    about('3 nodes, of the whole', three.speed_of_whole, { atLeast: OF_WHOLE_MIN }),
    about('3 nodes, of 3 stages in one process', three.speed_of_one_process, {
      atLeast: OF_ONE_PROCESS_MIN,
    }),
    about('milliseconds a hop beyond computing, 3 nodes', three.milliseconds_a_hop, {
      atMost: HOP_MILLISECONDS_MAX,
    }),
  ];
}
