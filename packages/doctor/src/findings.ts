/** Facts → findings, each with the command that mends it. Pure: nothing is read or run here. */
import { finding, type Finding } from './finding.ts';
import { linkFindings, powerFindings, systemFindings } from './system-findings.ts';
import type { MachineFacts } from './facts.ts';

const GIB = 1024 ** 3;
export const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;

const MEMORY_BYTES_MIN = 8 * GIB;
const DISK_BYTES_BLOCKS = 1 * GIB;
const DISK_BYTES_LOW = 20 * GIB;
/** No clock of a machine that runs this version is before it was written: 2026-11-01. */
const CLOCK_SECONDS_MIN = Date.UTC(2026, 10, 1) / 1000;
const CLOCK_SECONDS_MAX = CLOCK_SECONDS_MIN + 20 * 365 * 86_400;
/** Below this share of its memory a Mac starts to swap what the system itself needs. */
const WIRED_REST_BYTES_MIN = 4 * GIB;

export function findingsOf(facts: MachineFacts): Finding[] {
  return [
    ...programFindings(facts),
    ...systemFindings(facts),
    ...memoryFindings(facts),
    ...sandboxFindings(facts),
    ...engineFindings(facts),
    modelCheckFinding(facts),
    clockFinding(facts),
    ...diskFindings(facts),
    ...linkFindings(facts),
    ...portFindings(facts),
    ...powerFindings(facts),
    ...facts.system.unread.map((what) => finding('system.unread', 'note', what)),
  ];
}

export const blocks = (findings: readonly Finding[]): boolean =>
  findings.some((one) => one.level === 'blocks');

/** What `minikeep doctor --json` prints, wherever it was found. */
export interface Report {
  readonly blocks: boolean;
  readonly findings: readonly Finding[];
  readonly facts: MachineFacts;
}

export function reportOf(facts: MachineFacts): Report {
  const findings = findingsOf(facts);
  return { blocks: blocks(findings), findings, facts };
}

function programFindings(facts: MachineFacts): Finding[] {
  const { installation } = facts;
  const node =
    facts.node_version === facts.node_pinned
      ? finding('version.node', 'ok', `Node ${facts.node_version}, the pinned one`)
      : finding(
          'version.node',
          'warning',
          `Node ${facts.node_version} is not the pinned one (${facts.node_pinned})`,
          'Start minikeep by its own command (./minikeep in a checkout, minikeep when installed).',
        );
  const files = !installation.bundled
    ? finding(
        'files',
        'note',
        `${installation.folder} is a checkout: its files are not compared with a bundle`,
      )
    : installation.damaged.length === 0
      ? finding('files', 'ok', `every file in ${installation.folder} is the one that was installed`)
      : finding(
          'files',
          'blocks',
          `${installation.damaged.length} files are not those that were installed: ${installation.damaged.slice(0, 3).join(', ')}`,
          'Install again: sh install.sh ARCHIVE --digest SHA256. If nobody here changed them, find out who did.',
        );
  return [finding('version.minikeep', 'ok', `minikeep ${facts.minikeep_version}`), node, files];
}

function memoryFindings({
  platform,
  memory_bytes,
  memory_available_bytes,
  system,
}: MachineFacts): Finding[] {
  const size = `${gib(memory_bytes)} of memory, ${gib(memory_available_bytes)} free`;
  const memory =
    memory_bytes < MEMORY_BYTES_MIN
      ? finding(
          'memory',
          'warning',
          `${size}: little for a share of a model`,
          'End other programs, or give this node few layers.',
        )
      : finding('memory', 'ok', size);
  if (platform !== 'darwin') return [memory];
  const limit = system.wired_limit_mebibytes;
  const all = Math.floor(memory_bytes / 1024 ** 2);
  const raised = Math.max(0, all - 8 * 1024);
  if (limit === undefined) return [memory];
  if (limit === 0)
    return [
      memory,
      finding(
        'memory.wired_limit',
        'note',
        'the GPU may use what macOS allows by default (iogpu.wired_limit_mb is 0): about two thirds of 32 GiB or less, three quarters of more',
        `If a plan needs more: sudo sysctl iogpu.wired_limit_mb=${raised} (until the next boot)`,
      ),
    ];
  const rest = memory_bytes - limit * 1024 ** 2;
  return [
    memory,
    rest < WIRED_REST_BYTES_MIN
      ? finding(
          'memory.wired_limit',
          'warning',
          `the GPU may use ${limit} MiB, which leaves ${gib(Math.max(0, rest))} for everything else`,
          `sudo sysctl iogpu.wired_limit_mb=${raised}`,
        )
      : finding('memory.wired_limit', 'ok', `the GPU may use ${limit} MiB`),
  ];
}

function sandboxFindings({ sandbox }: MachineFacts): Finding[] {
  if (sandbox.ok)
    return [
      finding(
        'sandbox',
        'ok',
        `engines are locked in (${sandbox.mechanism}); prove it: minikeep canary`,
      ),
    ];
  return sandbox.missing.map(({ what, next }) =>
    finding('sandbox', 'blocks', `no sandbox: ${what}`, next),
  );
}

function engineFindings({ platform, engine, is_service }: MachineFacts): Finding[] {
  if (!engine.started)
    return [finding('engine', 'blocks', `an engine did not start: ${engine.why}`, engine.next)];
  const gpus = engine.devices.filter((device) => device.kind === 'gpu' || device.kind === 'igpu');
  const found: Finding[] = [
    finding(
      'engine',
      'ok',
      `an engine started: llama.cpp ${engine.llama_version}, ${engine.backends.join(', ')}`,
    ),
  ];
  for (const gpu of gpus)
    found.push(
      finding(
        'gpu',
        'ok',
        `the engine sees ${gpu.description || gpu.name}, ${gib(gpu.memory_bytes)}`,
      ),
    );
  if (gpus.length === 0)
    found.push(
      platform === 'darwin'
        ? finding(
            'gpu',
            'blocks',
            `the engine sees no GPU${is_service ? ' as a service' : ''}: it would compute on the CPU alone`,
            is_service
              ? 'Log in at the screen once and start the service again. If it stays so, see `log show --last 5m --predicate \'senderImagePath CONTAINS "Sandbox"\'`.'
              : 'See what was refused: minikeep doctor --verbose; and: system_profiler SPDisplaysDataType',
          )
        : finding('gpu', 'note', 'no GPU: engines compute on the CPU'),
    );
  found.push(
    engine.denials.length === 0
      ? finding('engine.denials', 'ok', 'nothing was refused before the model was open')
      : finding(
          'engine.denials',
          'note',
          `refused before the model was open, for review: ${engine.denials.slice(0, 8).join('; ')}${engine.denials.length > 8 ? ` and ${engine.denials.length - 8} more` : ''}`,
        ),
  );
  return found;
}

function modelCheckFinding({ model_check: check }: MachineFacts): Finding {
  if (check.status === 'exact')
    return finding(
      'model_check',
      'ok',
      `exact: a split model computes bit by bit what the whole does (${check.backend})`,
    );
  if (check.status === 'differs')
    return finding(
      'model_check',
      'warning',
      `differs by ${check.by}: on this machine (${check.backend}) a split model is not bit by bit the whole`,
      'Answers may differ a little from one division to another. Compare your own model: minikeep model check FILE',
    );
  return finding('model_check', 'note', `not run: ${check.why}`, 'minikeep doctor');
}

function clockFinding({ now_seconds: now, platform, system }: MachineFacts): Finding {
  const shown = new Date(now * 1000).toISOString();
  if (now < CLOCK_SECONDS_MIN || now > CLOCK_SECONDS_MAX)
    return finding(
      'clock',
      'blocks',
      `the clock says ${shown}: certificates would not be valid`,
      platform === 'darwin'
        ? 'sudo date MMDDhhmmYYYY (month, day, hour, minute, year)'
        : "sudo date -s 'YYYY-MM-DD hh:mm'",
    );
  if (system.clock_synchronized === false)
    return finding(
      'clock',
      'note',
      `the clock says ${shown}; nothing keeps it in step: compare it with the other nodes`,
    );
  return finding('clock', 'ok', `the clock says ${shown}`);
}

function diskFindings({ disks }: MachineFacts): Finding[] {
  return disks.map(({ what, path, free_bytes: free }) => {
    const text = `${gib(free)} free for ${what} (${path})`;
    if (free < DISK_BYTES_BLOCKS)
      return finding('disk', 'blocks', text, `Free space there: du -sh "${path}"/*`);
    if (free < DISK_BYTES_LOW)
      return finding(
        'disk',
        'warning',
        `${text}: little for slices of a model`,
        `Free space there: du -sh "${path}"/*`,
      );
    return finding('disk', 'ok', text);
  });
}

function portFindings({ ports }: MachineFacts): Finding[] {
  const busy = ports.filter(({ free }) => !free).map(({ port }) => port);
  if (ports.length === 0) return [];
  if (busy.length === 0)
    return [finding('ports', 'ok', `ports ${ports.map(({ port }) => port).join(', ')} are free`)];
  return [
    finding(
      'ports',
      'note',
      `ports in use: ${busy.join(', ')} (by this node itself, if it runs)`,
      `See by whom: lsof -nP -iTCP:${busy[0]} -sTCP:LISTEN; another port: minikeep init --listen ADDRESS:PORT`,
    ),
  ];
}
