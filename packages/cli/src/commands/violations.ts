/** `minikeep violations`: what was tried, by whom, where to, refused by what, seen by what. */
import { EXIT } from '@minikeep/protocol';
import { SealStatusServiceDefinition, type Violation } from '@minikeep/protocol/v1';
import type { CommandContext } from '../command-context.ts';
import type { HomeFlags } from '../home-folder.ts';
import { withOperator } from '../operator-connection.ts';
import { safeLine } from '../safe-text.ts';

export interface ViolationsFlags extends HomeFlags {
  readonly follow?: boolean;
  readonly reveal?: boolean;
  readonly node?: string;
  readonly count: number;
}

const keyOf = (instance: string, sequence: number): string => `${instance} ${sequence}`;

export async function violations(
  { terminal, interrupts }: CommandContext,
  flags: ViolationsFlags,
): Promise<number> {
  const json = flags.json === true;
  return withOperator(flags, async ({ operator, service }) => {
    const signal = AbortSignal.any([interrupts.signal, terminal.outputClosed]);
    const whole = new Map<string, string>();
    if (flags.reveal === true) {
      const { targets, missing } = await service(SealStatusServiceDefinition).revealViolations(
        {},
        { signal },
      );
      for (const { instance, sequence, target } of targets)
        whole.set(keyOf(instance, sequence), target);
      if (missing.length > 0) terminal.note(`not asked, for they are away: ${missing.join(', ')}`);
    }
    const show = async (violation: Violation): Promise<void> => {
      if (flags.node !== undefined && violation.node !== flags.node) return;
      const revealed = whole.get(keyOf(violation.instance, violation.sequence));
      if (json) await terminal.json(document(violation, revealed));
      else await terminal.line(safeLine(line(violation, revealed), 600));
    };
    // What there is, the newest last; then, if asked for, what comes.
    const latest: Violation[] = [];
    const wanted = (violation: Violation): boolean =>
      flags.node === undefined || violation.node === flags.node;
    for await (const { violation } of operator.violations({ follow: false }, { signal }))
      if (violation !== undefined && wanted(violation)) {
        latest.push(violation);
        if (latest.length > flags.count) latest.shift();
      }
    if (flags.follow !== true && json) {
      await terminal.json({
        violations: latest.map((one) =>
          document(one, whole.get(keyOf(one.instance, one.sequence))),
        ),
      });
      return EXIT.ok;
    }
    if (latest.length === 0 && flags.follow !== true)
      await terminal.line('Nothing was tried: no violation is on record.');
    for (const violation of latest) await show(violation);
    if (flags.follow !== true) return EXIT.ok;
    const last = latest.at(-1)?.number ?? 0;
    for await (const { violation } of operator.violations({ follow: true }, { signal }))
      if (violation !== undefined && violation.number > last) await show(violation);
    return EXIT.ok;
  });
}

const timeOf = ({ atSeconds }: Violation): Date => new Date(atSeconds * 1000);

function line(violation: Violation, revealed: string | undefined): string {
  const { number, node, deployment, purpose, kind, operation, count, stopped } = violation;
  const when = timeOf(violation).toISOString().slice(0, 19).replace('T', ' ');
  const who = deployment === '' ? purpose : `${deployment} (${purpose})`;
  const target = revealed ?? violation.target;
  const size = violation.payloadBytes > 0 ? `, ${violation.payloadBytes} bytes` : '';
  const times = count > 1 ? `, ${count} times` : '';
  const seen = violation.seenBy.length === 0 ? 'nobody' : violation.seenBy.join(', ');
  return `${String(number).padStart(5)}  ${when}  ${node}  ${who}  ${kind}: ${operation} ${target}${size}${times}; refused by ${violation.refusedBy}, seen by ${seen}${stopped ? '; stopped' : ''}`;
}

function document(violation: Violation, revealed: string | undefined) {
  const { number, node, deployment, epoch, thread, targetDigest, targetLength } = violation;
  return {
    number,
    at: timeOf(violation).toISOString(),
    node,
    deployment: deployment === '' ? null : deployment,
    epoch: deployment === '' ? null : epoch,
    purpose: violation.purpose,
    engine: violation.instance,
    thread: thread === 0 ? null : thread,
    kind: violation.kind,
    operation: violation.operation,
    target: violation.target,
    target_length: targetDigest === '' ? null : targetLength,
    target_digest: targetDigest === '' ? null : targetDigest,
    ...(revealed === undefined ? {} : { revealed }),
    payload_bytes: violation.payloadBytes,
    refused_by: violation.refusedBy,
    seen_by: violation.seenBy,
    count: violation.count,
    stopped: violation.stopped,
  };
}
