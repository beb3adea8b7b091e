/** A violation in the event log: its fields as they are kept for good, and exported. */
import type { Event } from '@minikeep/state';
import { Violation } from '@minikeep/protocol/v1';

export const VIOLATION_EVENT = 'violation.refused';

export function recordOf(violation: Violation): Readonly<Record<string, unknown>> {
  const { deployment, thread, payloadBytes, targetLength, targetDigest } = violation;
  return {
    at_seconds: violation.atSeconds,
    node: violation.node,
    ...(deployment === '' ? {} : { deployment, epoch: violation.epoch }),
    purpose: violation.purpose,
    engine: violation.instance,
    sequence: violation.sequence,
    ...(thread === 0 ? {} : { thread }),
    kind: violation.kind,
    operation: violation.operation,
    target: violation.target,
    ...(targetDigest === '' ? {} : { target_length: targetLength, target_digest: targetDigest }),
    ...(payloadBytes === 0 ? {} : { payload_bytes: payloadBytes }),
    refused_by: violation.refusedBy,
    seen_by: violation.seenBy,
    count: violation.count,
    stopped: violation.stopped,
  };
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const count = (value: unknown): number => (typeof value === 'number' ? value : 0);

export function violationOf({ number, data }: Pick<Event, 'number' | 'data'>): Violation {
  const seenBy = Array.isArray(data['seen_by']) ? data['seen_by'].map(text) : [];
  return Violation.create({
    number,
    atSeconds: count(data['at_seconds']),
    node: text(data['node']),
    deployment: text(data['deployment']),
    epoch: count(data['epoch']),
    purpose: text(data['purpose']),
    instance: text(data['engine']),
    sequence: count(data['sequence']),
    thread: count(data['thread']),
    kind: text(data['kind']),
    operation: text(data['operation']),
    target: text(data['target']),
    targetLength: count(data['target_length']),
    targetDigest: text(data['target_digest']),
    payloadBytes: count(data['payload_bytes']),
    refusedBy: text(data['refused_by']),
    seenBy,
    count: count(data['count']),
    stopped: data['stopped'] === true,
  });
}
