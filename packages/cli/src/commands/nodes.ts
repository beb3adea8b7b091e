/** `minikeep nodes` and `node remove`: who belongs to the cluster, and who does no longer. */
import { formatBytes } from '@minikeep/planner';
import { EXIT, MINIKEEP_VERSION, clockSkew } from '@minikeep/protocol';
import type { NodeStatus, StatusResponse } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { checkDocument, exactnessOf } from '../model-check-state.ts';
import { withOperator } from '../operator-connection.ts';
import { safeLine } from '../safe-text.ts';

const DAY_MS = 86_400_000;

export async function nodes({ terminal }: CommandContext, flags: HomeFlags): Promise<number> {
  return withOperator(flags, async ({ operator }) => {
    const status = await operator.status({});
    if (flags.json === true) {
      await terminal.json({
        cluster: status.clusterName,
        nodes: status.nodes.map((node) => nodeDocument(node, status)),
      });
      return EXIT.ok;
    }
    const width = Math.max(4, ...status.nodes.map(({ node }) => node.length)) + 2;
    await terminal.line(
      `${'NODE'.padEnd(width)}${'STATE'.padEnd(13)}${'ADDRESS'.padEnd(24)}${'MEMORY'.padEnd(12)}${'EXACT'.padEnd(10)}SANDBOX`,
    );
    for (const node of status.nodes) {
      const { node: name, address, memoryBytes, sandbox } = node;
      const memory = memoryBytes > 0 ? formatBytes(memoryBytes) : '–';
      const walls = sandbox === undefined ? '–' : sandbox.ok ? sandbox.mechanism : 'NONE';
      await terminal.line(
        safeLine(
          `${name.padEnd(width)}${stateOf(node).padEnd(13)}${(address || '–').padEnd(24)}${memory.padEnd(12)}${exactnessOf(node.modelCheck).padEnd(10)}${walls}${name === status.coordinatorNode ? ' (coordinator)' : ''}`,
          400,
        ),
      );
    }
    for (const line of linkLines(status)) await terminal.line(safeLine(line, 400));
    for (const note of notes(status)) terminal.note(note);
    return EXIT.ok;
  });
}

export interface RemoveFlags extends HomeFlags {
  readonly force?: boolean;
}

export async function removeNode(
  { terminal }: CommandContext,
  name: string,
  flags: RemoveFlags,
): Promise<number> {
  return withOperator(flags, async ({ operator }) => {
    const force = flags.force === true;
    const { told, notTold, moved, stuck } = await operator.removeNode({ node: name, force });
    if (flags.json === true)
      await terminal.json({ node: name, told, not_told: notTold, moved, stuck });
    else {
      await terminal.line(
        `Node ${name} is removed: no node and no coordinator answers it any more.`,
      );
      if (moved.length > 0)
        await terminal.line(
          `${moved.join(', ')} starts again on the other nodes; requests wait meanwhile: minikeep status`,
        );
      for (const each of stuck)
        terminal.note(
          `${each} has no room without it and waits: minikeep down ${each}, then up again with other nodes`,
        );
      if (notTold.length > 0)
        terminal.note(
          `${notTold.join(', ')} could not be told now; ${notTold.length === 1 ? 'it learns' : 'they learn'} it first thing when back`,
        );
    }
    return EXIT.ok;
  });
}

/** `joined`: it has never been heard of since it joined; `drained`: there, but out of service. */
function stateOf(node: NodeStatus): string {
  if (node.reachable) return node.draining ? 'drained' : 'up';
  return node.address === '' ? 'joined' : 'away';
}

function nodeDocument(node: NodeStatus, status: StatusResponse) {
  return {
    name: node.node,
    state: stateOf(node),
    coordinator: node.node === status.coordinatorNode,
    address: node.address,
    addresses: node.addresses,
    links: node.links.map((link) => ({
      to: link.peer === '' ? null : link.peer,
      address: link.address,
      interface: link.interface === '' ? null : link.interface,
      up: link.up,
      in_use: link.inUse,
      latency_seconds: link.latencySeconds > 0 ? link.latencySeconds : null,
      bytes_per_second: link.bytesPerSecond > 0 ? Math.round(link.bytesPerSecond) : null,
    })),
    draining: node.draining,
    platform: node.platform,
    version: node.minikeepVersion,
    cpu_count: node.cpuCount,
    memory_bytes: node.memoryBytes,
    memory_available_bytes: node.memoryAvailableBytes,
    speed:
      node.speed === undefined
        ? null
        : {
            memory_bytes_per_second: node.speed.memoryBytesPerSecond,
            operations_per_second: node.speed.operationsPerSecond,
            measured_at: new Date(node.speed.measuredAtSeconds * 1000).toISOString(),
          },
    sandbox: node.sandbox?.ok === true ? node.sandbox.mechanism : null,
    heartbeat_age_seconds: node.heartbeatAgeSeconds < 0 ? null : node.heartbeatAgeSeconds,
    clock_ahead_seconds: Math.round(node.clockAheadSeconds * 10) / 10,
    certificate_ends:
      node.certificateEndsAtSeconds > 0
        ? new Date(node.certificateEndsAtSeconds * 1000).toISOString()
        : null,
    violations: node.violations,
    model_check: checkDocument(node.modelCheck),
    error: node.error === undefined ? null : { code: node.error.code, message: node.error.message },
  };
}

/** Where frames go, and where they could: only of neighbours that have more than one way. */
function linkLines({ nodes: all }: StatusResponse): string[] {
  const lines = all.flatMap(({ node, links }) =>
    links
      .filter(({ peer }) => links.filter((other) => other.peer === peer).length > 1)
      .map(({ peer, interface: name, address, up, inUse, latencySeconds, bytesPerSecond }) => {
        const cost =
          bytesPerSecond > 0
            ? `${(latencySeconds * 1000).toFixed(1)} ms, ${formatBytes(bytesPerSecond)}/s`
            : 'not measured yet';
        const state = inUse ? 'in use' : up ? 'ready' : 'does not answer';
        return `  ${node} → ${peer || 'coordinator'}  ${name || '–'}  ${address}  ${cost}  ${state}`;
      }),
  );
  return lines.length === 0 ? [] : ['links:', ...lines];
}

function notes({ nodes: all }: StatusResponse): string[] {
  return all.flatMap((node) => {
    const found: string[] = [];
    if (!node.reachable && node.address === '')
      found.push(
        `${node.node} has joined and was not heard of since: run \`minikeep start\` there`,
      );
    else if (!node.reachable && node.error !== undefined)
      found.push(safeLine(`${node.node}: ${node.error.message}`, 300));
    const { modelCheck } = node;
    if (modelCheck?.status === 'differs')
      found.push(
        safeLine(
          `${node.node}: a split model differs from the whole by ${modelCheck.by} there (${modelCheck.backend}): answers are good, but not bit by bit those of another cut`,
          300,
        ),
      );
    const skew = clockSkew({
      whose: `${node.node}'s clock`,
      platform: node.platform,
      aheadSeconds: node.clockAheadSeconds,
      coordinatorMs: Date.now(),
    });
    if (skew !== undefined) found.push(safeLine(`${skew.message}. ${skew.next}`, 400));
    const left = node.certificateEndsAtSeconds * 1000 - Date.now();
    if (node.certificateEndsAtSeconds > 0 && left < 0)
      found.push(
        `${node.node}: its certificate has ended: join it again with a token of \`minikeep invite\``,
      );
    else if (node.certificateEndsAtSeconds > 0 && left < 7 * DAY_MS && !node.reachable)
      found.push(
        `${node.node}: its certificate ends in ${Math.ceil(left / DAY_MS)} days; it renews it when it is back`,
      );
    if (node.reachable && node.minikeepVersion !== MINIKEEP_VERSION)
      found.push(`${node.node} runs minikeep ${node.minikeepVersion}, this is ${MINIKEEP_VERSION}`);
    return found;
  });
}
