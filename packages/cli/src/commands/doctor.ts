/** `minikeep doctor`: checks this machine, says what mends each finding; exit 3 if something blocks. */
import { platformFor } from '@minikeep/agent';
import { pinnedNodeVersion } from '@minikeep/bundle/pins';
import {
  collectFacts,
  reportOf,
  type Finding,
  type Level,
  type MachineFacts,
} from '@minikeep/doctor';
import { EXIT } from '@minikeep/protocol';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { CommandContext, CommonFlags } from '../command-context.ts';
import { defaultCacheFolder } from '../local-cluster.ts';
import { localBudgetBytes } from '../local-memory.ts';
import { EMBEDDED_MODEL, knownModels } from '../models.ts';
import { Progress } from '../progress.ts';
import { temporaryFolder } from '../temporary-folder.ts';
import type { Terminal } from '../terminal.ts';

export interface DoctorFlags extends CommonFlags {
  readonly modelCheck: boolean;
  readonly home?: string;
  readonly node?: string;
}

/** Where a coordinator listens, where strangers join, and where an agent does, unless told otherwise. */
const PORTS = [7420, 7421, 7422];
/** In a node's home: what the last check found. */
const RESULT = 'doctor.json';

const SIGN: Record<Level, string> = { ok: '✓', note: '·', warning: '!', blocks: '✗' };

export async function doctor(context: CommandContext, flags: DoctorFlags): Promise<number> {
  const { terminal, interrupts, distFolder } = context;
  const json = flags.json === true;
  const home = flags.home ?? process.env['MINIKEEP_HOME'];
  const progress = new Progress(terminal, json);
  const folder = temporaryFolder('minikeep-doctor-');
  const remove = (): void =>
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 });
  const forget = interrupts.atOnce(remove);
  let facts: MachineFacts;
  try {
    facts = await collectFacts({
      platform: platformFor(false),
      programs: distFolder,
      model: knownModels(distFolder).get(EMBEDDED_MODEL),
      folder,
      nodePinned: pinnedNodeVersion(),
      memoryAvailableBytes: localBudgetBytes,
      folders: [
        ...(home === undefined || home === ''
          ? []
          : [{ what: 'the home', path: path.resolve(home) }]),
        { what: 'slices', path: defaultCacheFolder() },
        { what: 'temporary files', path: tmpdir() },
      ],
      ports: PORTS,
      modelCheck: flags.modelCheck,
      signal: interrupts.signal,
      onProgress: (what) => progress.show(what),
    });
  } finally {
    progress.clear();
    remove();
    forget();
  }
  const document = reportOf(facts);
  if (home !== undefined && existsSync(home)) keep(path.join(home, RESULT), document);
  if (json) await terminal.json(document);
  else await say(terminal, document.findings, flags.verbose === true);
  return document.blocks ? EXIT.checkFailed : EXIT.ok;
}

/** Readers see the old result or the new one. */
function keep(file: string, document: object): void {
  const text = `${JSON.stringify({ checked_at_seconds: Date.now() / 1000, ...document })}\n`;
  const next = `${file}.${process.pid}.new`;
  writeFileSync(next, text, { mode: 0o600 });
  renameSync(next, file);
}

export async function say(
  terminal: Terminal,
  findings: readonly Finding[],
  all: boolean,
): Promise<void> {
  const worst: readonly Level[] = ['ok', 'note', 'warning', 'blocks'];
  const ordered = findings.toSorted((a, b) => worst.indexOf(a.level) - worst.indexOf(b.level));
  for (const one of ordered) {
    if (one.level === 'ok' && !all && ordered.length > 1 && !SHOWN.has(one.id)) continue;
    await terminal.paragraph(one.what, `${SIGN[one.level]} `);
    if (one.next !== '') await terminal.line(`    ${one.next}`);
  }
  const count = (level: Level): number => findings.filter((one) => one.level === level).length;
  const stop = count('blocks');
  await terminal.line();
  await terminal.line(
    stop > 0
      ? `${stop} ${stop === 1 ? 'thing blocks' : 'things block'} a node on this machine; ${count('warning')} more to look at.`
      : count('warning') > 0
        ? `Nothing blocks a node on this machine; ${count('warning')} to look at.`
        : `Nothing blocks a node on this machine (${count('ok')} checks in order${all ? '' : ': --verbose shows them'}).`,
  );
}

/** In order, and worth a line all the same. */
const SHOWN = new Set([
  'version.minikeep',
  'version.system',
  'memory',
  'sandbox',
  'engine',
  'gpu',
  'model_check',
]);
