/** `minikeep audit verify` and `audit export`: whether the event log is what it was, and a copy that others can verify. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { EXIT, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { publicKeyPem } from '@minikeep/protocol/rpc';
import { AuditServiceDefinition, type VerifyResponse } from '@minikeep/protocol/v1';
import { FILES, Home, readKeyFile, requireKeyFile, State } from '@minikeep/state';
import type { CommandContext } from '../command-context.ts';
import { homeFolder, nodeSettings, type HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { safeLine } from '../safe-text.ts';

const AGREEMENT: Readonly<Record<string, string>> = {
  agrees: 'agrees',
  differs: 'DIFFERS',
  none: 'remembers nothing yet',
  away: 'could not be asked',
};

export async function auditVerify(
  { terminal, interrupts }: CommandContext,
  flags: HomeFlags,
): Promise<number> {
  const folder = homeFolder(flags);
  const settings = nodeSettings(folder);
  const running = readKeyFile(folder, FILES.running) !== undefined;
  const found = running
    ? await withOperator(flags, ({ service }) =>
        service(AuditServiceDefinition).verify({}, { signal: interrupts.signal }),
      )
    : stoppedVerify(folder);
  const key = publicKeyPem(requireKeyFile(folder, FILES.authority));
  const keyDigest = createHash('sha256').update(key).digest('hex');
  const differing = found.nodes.filter(({ state }) => state === 'differs');
  const ok = found.firstBad === 0 && differing.length === 0;
  if (flags.json === true)
    await terminal.json({
      cluster: settings.cluster_name,
      ok,
      entries: found.entries,
      first_bad: found.firstBad === 0 ? null : found.firstBad,
      fault: found.fault === '' ? null : found.fault,
      head:
        found.head === undefined
          ? null
          : { number: found.head.number, digest: Buffer.from(found.head.digest).toString('hex') },
      authority_key_sha256: keyDigest,
      nodes_asked: running,
      nodes: found.nodes.map(({ node, state, number, what }) => ({
        node,
        state,
        number,
        what: what === '' ? null : what,
      })),
    });
  else {
    await terminal.line(
      found.firstBad === 0
        ? `The log of ${settings.cluster_name} is whole: ${found.entries} entries, each covers the one before it.`
        : safeLine(found.fault, 400),
    );
    for (const { node, state, number, what } of found.nodes)
      await terminal.line(
        safeLine(
          `  ${node} ${AGREEMENT[state] ?? state}${number > 0 ? `, entry ${number}` : ''}${what === '' ? '' : `: ${what}`}`,
          400,
        ),
      );
    if (!running)
      terminal.note('The cluster does not run: what its nodes remember of the log was not asked.');
    await terminal.line(`SHA-256 of the authority's key: ${keyDigest}`);
  }
  return ok ? EXIT.ok : EXIT.checkFailed;
}

/** Of a cluster that does not run: the chain alone. */
function stoppedVerify(folder: string): VerifyResponse {
  const none = { head: undefined, nodes: [] };
  try {
    const entries = withState(folder, (state) => state.verifyAllEvents());
    return { ...none, entries, firstBad: 0, fault: '' };
  } catch (thrown) {
    const { code, message, details } = toMinikeepError(thrown);
    if (code !== 'events.broken') throw thrown;
    const bad = details['entry'];
    return { ...none, entries: 0, firstBad: typeof bad === 'number' ? bad : 1, fault: message };
  }
}

function withState<T>(folder: string, use: (state: State) => T): T {
  const home = Home.open(folder);
  try {
    const state = State.open(home, Date.now);
    try {
      return use(state);
    } finally {
      state.close();
    }
  } finally {
    home.close();
  }
}

export async function auditExport(
  { terminal, interrupts }: CommandContext,
  file: string,
  flags: HomeFlags,
): Promise<number> {
  const folder = homeFolder(flags);
  const authority = requireKeyFile(folder, FILES.authority);
  const { signal } = interrupts;
  return withOperator(flags, async ({ service, settings }) => {
    const audit = service(AuditServiceDefinition);
    // First the end: what comes after it meanwhile is not in the file.
    const { head } = await audit.head({}, { signal });
    if (head === undefined) throw noEnd();
    const out = createWriteStream(file, { flags: 'wx', mode: 0o600 });
    const failed = once(out, 'error').then(([error]) => {
      throw unwritable(file, error as NodeJS.ErrnoException);
    });
    const write = async (document: object): Promise<void> => {
      if (!out.write(`${JSON.stringify(document)}\n`))
        await Promise.race([once(out, 'drain'), failed]);
    };
    const work = async (): Promise<void> => {
      await write({
        format: 'minikeep log 1',
        cluster: settings.cluster_id,
        cluster_name: settings.cluster_name,
        authority_key: publicKeyPem(authority),
        made: new Date().toISOString(),
      });
      for await (const event of audit.exportLog({}, { signal })) {
        if (event.number > head.number) break;
        await write({
          number: event.number,
          at_ms: event.atMs,
          kind: event.kind,
          data: event.dataJson,
          digest: Buffer.from(event.digest).toString('hex'),
        });
      }
      await write({
        number: head.number,
        digest: Buffer.from(head.digest).toString('hex'),
        era: head.era,
        at_ms: head.atMs,
        signature: Buffer.from(head.signature).toString('base64'),
      });
      out.end();
      await once(out, 'finish');
    };
    await Promise.race([work(), failed]);
    if (flags.json === true) await terminal.json({ file, entries: head.number });
    else
      await terminal.line(
        safeLine(
          `${head.number} entries are in ${file}. Verify them anywhere: python3 docs/verify-log.py ${file}`,
          400,
        ),
      );
    return EXIT.ok;
  });
}

const unwritable = (file: string, error: NodeJS.ErrnoException): MinikeepError =>
  new MinikeepError(
    error.code === 'EEXIST' ? 'audit.file_exists' : 'audit.unwritable',
    error.code === 'EEXIST' ? `${file} is there already` : `can't write ${file}: ${error.message}`,
    {
      next: 'Name a new file, in a folder where you may write.',
      exitCode: EXIT.usage,
      cause: error,
    },
  );

const noEnd = (): MinikeepError =>
  new MinikeepError('audit.no_end', 'the coordinator did not say where its log ends', {
    next: 'It is of another version: update it.',
  });
