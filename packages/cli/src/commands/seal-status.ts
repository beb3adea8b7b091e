/** `minikeep seal status`: what is enforced, watched and proven on each node, and how old each proof is. */
import { EXIT } from '@minikeep/protocol';
import { canaryName, connectListName, enforcedName, sealName } from '@minikeep/protocol/rpc';
import {
  ConnectListState,
  EnforcedState,
  SealStatusServiceDefinition,
  type NodeSeal,
  type SealReason,
  type SealStatusResponse,
} from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { quarantineText } from '../quarantine-text.ts';
import { safeLine } from '../safe-text.ts';

export async function sealStatus({ terminal }: CommandContext, flags: HomeFlags): Promise<number> {
  return withOperator(flags, async ({ service, settings }) => {
    const status = await service(SealStatusServiceDefinition).sealStatus({});
    if (flags.json === true) {
      await terminal.json({ cluster: settings.cluster_name, ...document(status) });
      return EXIT.ok;
    }
    await terminal.line(
      `${settings.cluster_name} is sealed: ${sealName(status.sealed)}; violations: ${status.violations}`,
    );
    const rows = [['NODE', 'ENFORCED', 'WATCHED', 'CANARY'], ...status.nodes.map(row)];
    const widths = [0, 1, 2].map((column) =>
      Math.max(...rows.map((cells) => cells[column]?.length ?? 0)),
    );
    for (const cells of rows) {
      const text = cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ');
      await terminal.line(safeLine(text.trimEnd(), 400));
    }
    const { connectList } = status;
    await terminal.line(`The coordinator's connect list: ${listText(connectList?.state)}`);
    const { policies } = status;
    await terminal.line(
      `Policy: violations ${policies?.violations ?? 'unknown'}, when blind ${policies?.whenBlind ?? 'unknown'}`,
    );
    for (const each of status.quarantined) terminal.note(safeLine(quarantineText(each), 400));
    for (const { node, what } of status.reasons)
      terminal.note(safeLine(`${node === '' ? 'coordinator' : node}: ${what}`, 400));
    return EXIT.ok;
  });
}

const listText = (state: ConnectListState | undefined): string =>
  connectListName(state ?? ConnectListState.CONNECT_LIST_STATE_UNSPECIFIED);

/** `12 s`, `4 min`, `3 h`. */
export function ageText(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7_200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3_600)} h`;
}

function row({ node, up, heardSeconds, sandbox, evidence }: NodeSeal): string[] {
  if (!up || evidence === undefined) return [node, up ? 'not heard of yet' : 'away', '–', '–'];
  const age = ageText(evidence.ageSeconds + Math.max(0, heardSeconds));
  const locked = evidence.engines.filter(
    ({ enforced }) => enforced === EnforcedState.ENFORCED_STATE_YES,
  ).length;
  const walls = evidence.sandboxOff || sandbox?.ok !== true ? 'NO SANDBOX' : 'sandbox';
  const engines = `${locked} of ${evidence.engines.length} engines locked in`;
  const list = `connect list ${listText(evidence.connectList?.state)}`;
  const { canary } = evidence;
  return [
    node,
    `${walls}, ${engines}, ${list} (${age} ago)`,
    evidence.blind === '' ? `yes (${age} ago)` : 'BLIND',
    canary === undefined
      ? 'none yet'
      : `${canaryName(canary.state)}, ${canary.attempts} attempts (${ageText(canary.ageSeconds + Math.max(0, heardSeconds))} ago)`,
  ];
}

const reasonDocument = ({ node, level, what }: SealReason) => ({
  node: node === '' ? null : node,
  level: sealName(level),
  what,
});

function document(status: SealStatusResponse) {
  return {
    sealed: sealName(status.sealed),
    wanted: sealName(status.wanted),
    violations: status.violations,
    reasons: status.reasons.map(reasonDocument),
    coordinator: { connect_list: listText(status.connectList?.state) },
    policies: {
      violations: status.policies?.violations ?? null,
      when_blind: status.policies?.whenBlind ?? null,
    },
    quarantined: status.quarantined.map(({ deployment, atSeconds, node, kind, operation }) => ({
      deployment,
      at: new Date(atSeconds * 1000).toISOString(),
      node,
      kind,
      operation,
    })),
    nodes: status.nodes.map((node) => nodeDocument(node)),
  };
}

function nodeDocument({ node, up, heardSeconds, sandbox, evidence, reasons }: NodeSeal) {
  const late = Math.max(0, heardSeconds);
  const age = evidence === undefined ? null : evidence.ageSeconds + late;
  const bad = evidence?.engines.some(
    ({ enforced }) => enforced !== EnforcedState.ENFORCED_STATE_YES,
  );
  return {
    name: node,
    up,
    enforcement: {
      ok: sandbox?.ok === true && evidence?.sandboxOff === false && bad === false,
      age_seconds: age,
      sandbox: sandbox?.ok === true ? sandbox.mechanism : null,
      connect_list: listText(evidence?.connectList?.state),
      engines: (evidence?.engines ?? []).map(({ deployment, pid, enforced, finding }) => ({
        deployment,
        pid,
        enforced: enforcedName(enforced),
        finding,
      })),
    },
    monitors: {
      ok: evidence !== undefined && evidence.blind === '',
      age_seconds: age,
      why: evidence === undefined || evidence.blind === '' ? null : evidence.blind,
    },
    canary:
      evidence?.canary === undefined
        ? null
        : {
            state: canaryName(evidence.canary.state),
            age_seconds: evidence.canary.ageSeconds + late,
            attempts: evidence.canary.attempts,
            why: evidence.canary.why === '' ? null : evidence.canary.why,
          },
    reasons: reasons.map(reasonDocument),
  };
}
