// The bench's report as a table for people.
import { text } from './figures.mjs';

const NAME_WIDTH = 26;
const line = (name, rest) => `  ${name.padEnd(NAME_WIDTH)}${rest}`;
const percent = (value) => `${(value * 100).toFixed(2)} %`;

function noiseLine({
  fixed_loop_milliseconds: loop,
  cores,
  cores_taken_by_others: others,
  cores_stolen,
}) {
  return (
    `  (meanwhile a fixed loop took ${text(loop, 2)} ms; other processes took ` +
    `${others.toFixed(2)} of ${cores} cores, a hypervisor ${cores_stolen.toFixed(2)})`
  );
}

function decodeLines({ noise, table, floor }, { threads, rounds, tokens }) {
  const lines = [
    `decode, one stream, ${threads} threads a stage, ${rounds} rounds of ${tokens} tokens`,
  ];
  for (const row of table) {
    const {
      speed_of_one_process: inOne,
      milliseconds_a_hop: hop,
      stages_milliseconds: stages,
    } = row;
    lines.push(
      line(
        row.arrangement,
        `${text(row.milliseconds_a_token, 2)} ms, ${text(row.speed_of_whole, 3)} of the whole`,
      ),
    );
    if (hop === undefined) continue;
    lines.push(
      line('', `${text(inOne, 3)} of one process, ${text(hop, 3)} ms a hop`),
      line('', `stages compute ${stages.map((one) => one.median.toFixed(2)).join(' + ')} ms`),
    );
  }
  lines.push(
    line('a frame without minikeep', `TCP ${text(floor.tcp, 3)} ms`),
    line('', `TLS ${text(floor.mutual_tls, 3)} ms, both between two processes, cold`),
  );
  return [...lines, noiseLine(noise)];
}

const promptLines = (prompt) => [
  `prompt of ${prompt.tokens} tokens`,
  line('whole, one core', `${text(prompt.seconds_whole_on_one_core, 2)} s`),
  line(
    '2 nodes, a core each',
    `${text(prompt.seconds_two_nodes_on_two, 2)} s, ${text(prompt.speedup, 2)} times as fast`,
  ),
  noiseLine(prompt.noise),
];

const wardenLines = (warden) => [
  `warden, ${warden.pairs} pairs`,
  line('sandboxed', `${text(warden.milliseconds_with, 2)} ms a token`),
  line('not', `${text(warden.milliseconds_without, 2)} ms a token`),
  line(
    'cost',
    `${percent(warden.cost.median)} (95 %: ${warden.cost.interval.map(percent).join(' to ')})`,
  ),
  noiseLine(warden.noise),
];

const startLines = ({ stages, seconds_to_first_token: seconds, noise }) => [
  `start, ${stages} nodes, slices cached`,
  line('to the first token', `${text(seconds, 2)} s`),
  noiseLine(noise),
];

const memoryLines = ({ stages, table }) => [
  `memory of trusted processes, ${stages} nodes, most ever: resident, and with shared pages divided`,
  ...table.map(({ program, peak_mib, proportional_mib }) =>
    line(program, `${peak_mib.toFixed(0)} MiB, ${proportional_mib.toFixed(0)} MiB`),
  ),
];

const transferLines = (transfer) => [
  `transfer of a slice of ${transfer.mebibytes.toFixed(0)} MiB, ${transfer.rounds} rounds`,
  line('a node fetches it', `${text(transfer.mebibytes_per_second, 0)} MiB/s`),
  line('cat over mTLS', `${text(transfer.mebibytes_per_second_of_cat, 0)} MiB/s`),
  line(
    '',
    `${text(transfer.of_cat, 3)} of it; receiver at most ${transfer.receiver_peak_mib.toFixed(0)} MiB`,
  ),
  line(
    'processor time a GiB',
    `${text(transfer.cpu_seconds_a_gibibyte, 2)} s, cat ${text(transfer.cpu_seconds_a_gibibyte_of_cat, 2)} s (the busier end)`,
  ),
  noiseLine(transfer.noise),
];

function claimLine({ what, measured, at_least, at_most, met, interval }) {
  const limit = at_least === undefined ? `at most ${at_most}` : `at least ${at_least}`;
  const sure =
    interval === undefined ? '' : `, 95 %: ${interval.map((v) => v.toFixed(3)).join(' to ')}`;
  return `  ${met ? 'met    ' : 'NOT MET'} ${what}: ${measured.toFixed(3)} (${limit}${sure})`;
}

const PARTS = {
  decode: decodeLines,
  prompt: promptLines,
  warden: wardenLines,
  start: startLines,
  memory: memoryLines,
  transfer: transferLines,
};

/** Lines of the whole report. */
export function reportLines(report) {
  const { machine, settings } = report;
  const lines = [
    `${report.model}; ${machine.cores} cores, ${machine.cpu}; load before ${machine.load.join(' ')}`,
    'median (middle half)',
  ];
  for (const [part, linesOf] of Object.entries(PARTS))
    if (report[part] !== undefined) lines.push('', ...linesOf(report[part], settings));
  if (report.claims.length > 0) lines.push('', ...report.claims.map(claimLine));
  return lines;
}
