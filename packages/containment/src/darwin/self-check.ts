/**
 * What this Mac can enforce, found out by trying: the engine's own kind of profile must refuse a connection, a write
 * and a read outside, each one; and a refusal must be in the log, or attempts can't be seen here, which is said.
 */
import { mkdtempSync, realpathSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { SandboxSupport } from '../sandbox.ts';
import { escapeText } from '../warden/escape.ts';
import { nodeOptions } from '../warden/node-options.ts';
import type { Commands } from './commands.ts';
import { type Clock, LogWatch, newTag } from './log-watch.ts';
import { seatbeltProfile } from './profile.ts';

export const MECHANISM = 'Seatbelt';
const MACOS_MIN = 14;
const STDERR_CHARACTERS_MAX = 200;
/** What a refused call answers. */
const REFUSED = 'EPERM';
const CHOICES =
  'Use another machine, or `--unsafe-no-sandbox`, which marks the cluster as unsealed.';

export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Node's program, canonical. */
  readonly node: string;
}

/** Said by the probe: `ok` where it got through, else the error's code. */
interface Tried {
  readonly connect: string;
  readonly write: string;
  readonly read: string;
}

/**
 * Runs inside. Arguments: a file to read, a file to write. Plain JavaScript, given with `-e`, because the profile
 * names exact files and none has to be laid out for it.
 */
export const PROBE = `
const fs = require('node:fs'), net = require('node:net');
const [read, write] = process.argv.slice(1);
const said = (f) => { try { f(); return 'ok'; } catch (e) { return String(e.code); } };
const tried = { read: said(() => fs.readFileSync(read)), write: said(() => fs.writeFileSync(write, 'x')) };
const tell = (connect) => { fs.writeSync(1, JSON.stringify({ ...tried, connect }) + '\\n'); process.exit(0); };
const s = net.connect({ host: '127.0.0.1', port: 9 });
s.once('connect', () => tell('ok')); s.once('error', (e) => tell(String(e.code)));
setTimeout(() => tell('timeout'), 5000);
`;

const LACKS: Readonly<Record<keyof Tried, string>> = {
  connect: 'a network connection',
  write: 'writing a file',
  read: 'reading a file outside',
};

export async function selfCheck(
  commands: Commands,
  machine: Machine,
  clock?: Clock,
): Promise<SandboxSupport> {
  const answer = (
    missing: SandboxSupport['missing'],
    mechanism = MECHANISM,
    also: readonly string[] = [],
  ): SandboxSupport => ({
    ok: missing.length === 0,
    platform: `${machine.platform} ${machine.arch}`,
    mechanism,
    also,
    missing,
  });
  if (machine.platform !== 'darwin' || machine.arch !== 'arm64')
    return answer([
      {
        what: `${machine.platform} on ${machine.arch}: the engine's libraries are for Apple Silicon`,
        next: 'Use a Mac with Apple Silicon, or Linux x86-64.',
      },
    ]);
  const version = await commands.run(commands.swVers, ['-productVersion']);
  const macos = version.stdout.trim();
  if (!(Number.parseInt(macos, 10) >= MACOS_MIN))
    return answer([
      {
        what: `this is macOS ${escapeText(macos, 40) || '(unknown)'}; ${MACOS_MIN} or newer is needed`,
        next: 'Update macOS.',
      },
    ]);
  const fault = await enforcementFault(commands, machine);
  if (fault !== undefined) return answer([fault]);
  const blind = await logFault(commands, clock);
  return blind === ''
    ? answer([], `${MECHANISM}, its refusals read from the system log`, [`macOS ${macos}`])
    : answer([], `${MECHANISM}; blind: attempts are refused but can't be seen here (${blind})`, [
        `macOS ${macos}`,
      ]);
}

async function enforcementFault(
  commands: Commands,
  machine: Machine,
): Promise<SandboxSupport['missing'][number] | undefined> {
  const folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'minikeep-probe-')));
  const outside = path.join(folder, 'read');
  const written = path.join(folder, 'written');
  try {
    writeFileSync(outside, 'x');
    const profile = seatbeltProfile({ tag: newTag(), program: machine.node, files: [], gpu: true });
    const { code, stdout, stderr } = await commands.run(commands.sandboxExec, [
      '-p',
      profile,
      machine.node,
      ...nodeOptions(),
      '-e',
      PROBE,
      outside,
      written,
    ]);
    if (code === null && stderr.includes('ENOENT'))
      return { what: `${commands.sandboxExec} is missing`, next: CHOICES };
    if (code !== 0)
      return {
        what: `the probe did not run inside the sandbox (code ${code ?? 'none'}): ${escapeText(stderr.trim(), STDERR_CHARACTERS_MAX)}`,
        next: stderr.includes('sandbox_apply')
          ? 'Run minikeep outside of any other sandbox: sandboxes do not nest on macOS.'
          : `Report this with your version of macOS. ${CHOICES}`,
      };
    const tried = parseTried(stdout);
    if (tried === undefined)
      return { what: 'the probe said nothing that can be read', next: CHOICES };
    const open = (Object.keys(LACKS) as (keyof Tried)[]).filter((key) => tried[key] !== REFUSED);
    if (open.length === 0 && !existsSync(written)) return undefined;
    const what = open.map((key) => `${LACKS[key]} (${escapeText(tried[key], 40)})`).join(', ');
    return { what: `the sandbox did not refuse ${what || LACKS.write}`, next: CHOICES };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function parseTried(text: string): Tried | undefined {
  try {
    const value = JSON.parse(text) as Record<string, unknown>;
    const { connect, write, read } = value;
    return typeof connect === 'string' && typeof write === 'string' && typeof read === 'string'
      ? { connect, write, read }
      : undefined;
  } catch {
    return undefined;
  }
}

/** Why the log can't be read here; empty when a refusal of our own was in it. */
async function logFault(commands: Commands, clock?: Clock): Promise<string> {
  const watch = new LogWatch({
    commands,
    ...(clock === undefined ? {} : { clock }),
    tag: newTag(),
    onRefusal: () => undefined,
    onBlind: () => undefined,
  });
  try {
    await watch.start();
    return watch.blind;
  } finally {
    watch.close();
  }
}
