/**
 * Carries out the steps of one item. Whatever they lead to, the interpreter itself decides nothing: it goes along a
 * way until a call is refused, and says what it saw.
 */
import { type Facts, fill } from './facts.ts';
import { addressOf, type CallResult, type Native } from './native.ts';
import { sockaddrBytes } from './sockaddr.ts';
import type { Address, Arg, CanaryPlatform, Step } from './types.ts';
import { type Verb, VERBS } from './verbs.ts';
import type { Observed, WayOutcome } from './wire.ts';

/** A call that is under way was not refused: the packet of a non-blocking connect has left. */
const UNDER_WAY: Readonly<Record<CanaryPlatform, readonly number[]>> = {
  linux: [115],
  darwin: [36],
};
/** Calls that answer zero in a child that should not exist. */
const FORKS = new Set(['fork', 'vfork', 'clone', 'clone3']);
const CHILD_EXIT_CODE = 86;

export interface StepContext {
  readonly native: Native;
  readonly platform: CanaryPlatform;
  readonly facts: Facts;
}

export function runWay(steps: readonly Step[], context: StepContext): WayOutcome {
  const kept = new Map<string, bigint>();
  const outcome = goAlong(steps, context, kept);
  const fd = kept.get('fd');
  if (fd !== undefined) context.native.call('close', [fd]);
  return outcome;
}

function goAlong(
  steps: readonly Step[],
  context: StepContext,
  kept: Map<string, bigint>,
): WayOutcome {
  const seen: Observed[] = [];
  for (const [index, step] of steps.entries()) {
    const { result, errno, note } = runStep(step, kept, context);
    const refused = result < 0n && !UNDER_WAY[context.platform].includes(errno);
    seen.push({ step: index, call: step.call, result: String(result), errno, refused, note });
    if (refused) return { outcome: step.prepare === true ? 'unprepared' : 'refused', steps: seen };
    if (step.keep !== undefined) kept.set(step.keep, result);
  }
  return { outcome: 'done', steps: seen };
}

function runStep(
  step: Step,
  kept: ReadonlyMap<string, bigint>,
  context: StepContext,
): CallResult & { readonly note: string } {
  // Buffers live here until the call is over: the kernel gets their bare addresses.
  const held: Buffer[] = [];
  const args = (step.args ?? []).flatMap((arg) => encode(arg, kept, context, held));
  const verb = /^verb:(.+)$/.exec(step.call)?.[1];
  if (verb !== undefined) {
    const run: Verb | undefined = VERBS[verb];
    if (run === undefined) throw new Error(`the checklist names an unknown verb: ${verb}`);
    return run({ native: context.native, platform: context.platform, args });
  }
  const answer = context.native.call(step.call, args);
  if (answer.result === 0n && FORKS.has(step.call))
    context.native.call(context.platform === 'linux' ? 'exit_group' : '_exit', [
      BigInt(CHILD_EXIT_CODE),
    ]);
  return { ...answer, note: '' };
}

function encode(
  arg: Arg,
  kept: ReadonlyMap<string, bigint>,
  context: StepContext,
  held: Buffer[],
): bigint[] {
  const pointer = (bytes: Buffer): bigint => {
    held.push(bytes);
    return addressOf(bytes);
  };
  if (typeof arg === 'number') return [BigInt(arg)];
  if (typeof arg === 'string') return [named(arg, kept, context.facts)];
  if ('text' in arg) return [pointer(Buffer.from(`${fill(arg.text, context.facts)}\0`))];
  if ('bytes' in arg) return [pointer(Buffer.alloc(arg.bytes))];
  if ('hex' in arg) return [pointer(Buffer.from(arg.hex, 'hex'))];
  if ('words' in arg) {
    const words = arg.words.flatMap((word) => encode(word, kept, context, held));
    const bytes = Buffer.alloc(8 * words.length);
    words.forEach((word, i) => bytes.writeBigUInt64LE(BigInt.asUintN(64, word), 8 * i));
    return [pointer(bytes)];
  }
  if ('ints' in arg) {
    const bytes = Buffer.alloc(4 * arg.ints.length);
    arg.ints.forEach((int, i) => {
      const value = typeof int === 'number' ? BigInt(int) : named(int, kept, context.facts);
      bytes.writeUInt32LE(Number(BigInt.asUintN(32, value)), 4 * i);
    });
    return [pointer(bytes)];
  }
  const bytes = sockaddrBytes(
    filled(arg.sockaddr, context.facts),
    portOf(arg.sockaddr, context.facts),
    context.platform,
  );
  return [pointer(bytes), BigInt(bytes.length)];
}

function named(name: string, kept: ReadonlyMap<string, bigint>, facts: Facts): bigint {
  const value = kept.get(name.slice(1)) ?? facts[name.slice(1)];
  if (value === undefined || typeof value === 'string')
    throw new Error(`the checklist names an unknown number: ${name}`);
  return BigInt(value);
}

function filled(address: Address, facts: Facts): Address {
  if (address.family === 'unix') return { ...address, path: fill(address.path, facts) };
  if (address.family === 'abstract') return { ...address, name: fill(address.name, facts) };
  return address;
}

function portOf(address: Address, facts: Facts): number {
  if (!('port' in address)) return 0;
  return typeof address.port === 'number' ? address.port : Number(fill(address.port, facts));
}
