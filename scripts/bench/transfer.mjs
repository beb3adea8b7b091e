// How fast a slice comes to a node, beside `cat FILE | mTLS stream` over the same link (loopback, one core's worth of TLS
// each side): both end with all bytes on the receiver's disk, but only one of them is checked chunk by chunk.
import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { TRUSTED_NODE } from '../../packages/protocol/src/process-main.ts';
import { CertificateAuthority } from '../../packages/protocol/src/authority.ts';
import { atEnd } from './ending.mjs';
import { claim, pairedRatio, spread } from './figures.mjs';
import { watchNoise } from './noise.mjs';
import { benchProgram } from './program.mjs';

const RATIO_MIN = 0.8;
const MIB = 1024 * 1024;

async function end(program, start) {
  const child = spawn(process.execPath, [...TRUSTED_NODE.flags, program], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...TRUSTED_NODE.env },
  });
  atEnd(() => child.kill());
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async (message) => {
    child.stdin.write(`${JSON.stringify(message)}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error('one end of the transfer ended');
    return JSON.parse(value);
  };
  return { ask, ready: await ask(start), stop: () => child.stdin.end() };
}

export async function transferBench({ file, folder, rounds, log }) {
  const program = await benchProgram('scripts/bench/transfer-main.ts');
  const authority = await CertificateAuthority.throwAway('bench', Date.now());
  const credentials = async (role, name) => {
    const { certificatePem: certificate, privateKeyPem: privateKey } = await authority.issue(
      role,
      name,
    );
    return { authority: authority.certificatePem, certificate, privateKey };
  };
  const own = path.join(folder, 'transfer');
  await mkdir(own, { recursive: true });
  const common = { file, folder: own };
  const sender = await end(program, {
    role: 'send',
    credentials: await credentials('coordinator', 'sender'),
    ...common,
  });
  const receiver = await end(program, {
    role: 'receive',
    credentials: await credentials('node', 'reader'),
    ...common,
  });
  const { bytes, ...offer } = sender.ready;
  const speeds = { pieces: [], cat: [] };
  /** Processor seconds of the busier end: what bounds a transfer over a link that is faster than both. */
  const busiest = { pieces: [], cat: [] };
  let peakMiB = 0;
  const noise = watchNoise();
  // One round before the first counts: code that V8 has not compiled yet, and a file that is not in memory.
  for (let round = -1; round < rounds; round++) {
    log(`transfer: round ${Math.max(0, round) + 1} of ${rounds}`);
    for (const way of round % 2 === 0 ? ['pieces', 'cat'] : ['cat', 'pieces']) {
      const before = await sender.ask({});
      const { seconds, peakMiB: peak, cpuSeconds } = await receiver.ask({ way, ...offer });
      const sent = (await sender.ask({})).cpuSeconds - before.cpuSeconds;
      if (way === 'pieces') peakMiB = Math.max(peakMiB, peak);
      if (round < 0) continue;
      speeds[way].push(bytes / MIB / seconds);
      busiest[way].push(Math.max(cpuSeconds, sent) / (bytes / 2 ** 30));
    }
    noise.tick();
  }
  sender.stop();
  receiver.stop();
  const ratio = pairedRatio(speeds.pieces, speeds.cat);
  return {
    mebibytes: bytes / MIB,
    rounds,
    mebibytes_per_second: spread(speeds.pieces),
    mebibytes_per_second_of_cat: spread(speeds.cat),
    of_cat: ratio,
    cpu_seconds_a_gibibyte: spread(busiest.pieces),
    cpu_seconds_a_gibibyte_of_cat: spread(busiest.cat),
    receiver_peak_mib: peakMiB,
    noise: noise.report(),
    claims: [
      claim('a slice on its way, of cat over mTLS', ratio.median, {
        atLeast: RATIO_MIN,
        interval: ratio.interval,
      }),
    ],
  };
}
