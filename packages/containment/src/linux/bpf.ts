/**
 * Compiles the rules into one seccomp program (classic BPF, linux/filter.h and linux/seccomp.h).
 * The program is linear: rules are tried in their order, so the frequent ones come first.
 */
import type { Arch } from './arch.ts';
import type { AllowRule, Alternative, Check, ErrnoRule, WatchRule } from './rules.ts';

export const ACTION = {
  allow: 0x7fff_0000,
  notify: 0x7fc0_0000,
  errno: 0x0005_0000,
  killProcess: 0x8000_0000,
} as const;

export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** Opcodes used here. */
export const OP = {
  load: 0x20,
  and: 0x54,
  jumpEqual: 0x15,
  jumpGreaterEqual: 0x35,
  jumpSet: 0x45,
  ret: 0x06,
} as const;

/** Offsets in struct seccomp_data. */
const AT_NR = 0;
const AT_ARCH = 4;
const AT_ARGS = 16;
const JUMP_MAX = 255;
/** BPF_MAXINSNS. */
const INSTRUCTIONS_MAX = 4096;
const INSTRUCTION_BYTES = 8;

/** A jump target inside an alternative: 'no' leaves it. */
type Target = 'next' | 'no';
interface Draft {
  readonly code: number;
  readonly k: number;
  readonly yes?: Target;
  readonly no?: Target;
}

function draft(check: Check): Draft[] {
  const lowHalf = AT_ARGS + 8 * check.arg;
  const load: Draft = { code: OP.load, k: lowHalf };
  switch (check.op) {
    case 'eq':
      return [load, { code: OP.jumpEqual, k: check.value, no: 'no' }];
    case 'clear':
      return [load, { code: OP.jumpSet, k: check.value, yes: 'no' }];
    case 'any':
      return [load, { code: OP.jumpSet, k: check.value, no: 'no' }];
    case 'masked':
      return [
        load,
        { code: OP.and, k: check.mask },
        { code: OP.jumpEqual, k: check.value, no: 'no' },
      ];
    case 'null':
      return [
        load,
        { code: OP.jumpEqual, k: 0, no: 'no' },
        { code: OP.load, k: lowHalf + 4 },
        { code: OP.jumpEqual, k: 0, no: 'no' },
      ];
    case 'self':
    case 'own_thread':
      throw new Error(`a filter can't check ${check.op}`);
  }
}

function alternative(all: Alternative, action: number): Instruction[] {
  const drafts: Draft[] = [...all.flatMap(draft), { code: OP.ret, k: action }];
  return drafts.map((d, i) => {
    const leave = drafts.length - i - 1;
    return {
      code: d.code,
      jt: d.yes === 'no' ? leave : 0,
      jf: d.no === 'no' ? leave : 0,
      k: d.k >>> 0,
    };
  });
}

const ret = (k: number): Instruction => ({ code: OP.ret, jt: 0, jf: 0, k: k >>> 0 });

function ruleBlock(number: number, body: readonly Instruction[], call: string): Instruction[] {
  if (body.length > JUMP_MAX) throw new Error(`the rule for ${call} is too long for a BPF jump`);
  return [{ code: OP.jumpEqual, jt: 0, jf: body.length, k: number }, ...body];
}

/** Calls that the architecture lacks are left out: they fall under the default, a notification. */
export function compile(
  arch: Arch,
  allowed: readonly AllowRule[],
  answered: readonly ErrnoRule[],
): Instruction[] {
  const program = beginning(arch);
  for (const { call, alternatives } of allowed) {
    const number = arch.numbers[call];
    if (number === undefined) continue;
    // After a look at an argument the number is no longer loaded: a rule with arguments decides for good.
    const body = alternatives.flatMap((all) => alternative(all, ACTION.allow));
    if (!alternatives.some((all) => all.length === 0)) body.push(ret(ACTION.notify));
    program.push(...ruleBlock(number, body, call));
  }
  return ended(arch, program, answered, ACTION.notify);
}

/** The other way round: what is not watched passes. */
export function compileWatch(
  arch: Arch,
  watched: readonly WatchRule[],
  answered: readonly ErrnoRule[],
): Instruction[] {
  const program = beginning(arch);
  for (const { call, unless = [], when } of watched) {
    const number = arch.numbers[call];
    if (number === undefined) continue;
    const body = [
      ...unless.flatMap((all) => alternative(all, ACTION.allow)),
      ...(when ?? []).flatMap((all) => alternative(all, ACTION.notify)),
      ret(when === undefined ? ACTION.notify : ACTION.allow),
    ];
    program.push(...ruleBlock(number, body, call));
  }
  return ended(arch, program, answered, ACTION.allow);
}

/** Kills what is of another architecture, and loads the call's number. */
function beginning(arch: Arch): Instruction[] {
  const program: Instruction[] = [
    { code: OP.load, jt: 0, jf: 0, k: AT_ARCH },
    { code: OP.jumpEqual, jt: 1, jf: 0, k: arch.audit },
    ret(ACTION.killProcess),
    { code: OP.load, jt: 0, jf: 0, k: AT_NR },
  ];
  if (arch.foreign_from !== undefined)
    program.push(
      { code: OP.jumpGreaterEqual, jt: 0, jf: 1, k: arch.foreign_from },
      ret(ACTION.killProcess),
    );
  return program;
}

function ended(
  arch: Arch,
  program: Instruction[],
  answered: readonly ErrnoRule[],
  otherwise: number,
): Instruction[] {
  for (const { call, errno } of answered) {
    const number = arch.numbers[call];
    if (number !== undefined) program.push(...ruleBlock(number, [ret(ACTION.errno | errno)], call));
  }
  program.push(ret(otherwise));
  if (program.length > INSTRUCTIONS_MAX) throw new Error('the filter is too long');
  return program;
}

/** struct sock_filter[], little-endian. */
export function encode(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * INSTRUCTION_BYTES);
  program.forEach(({ code, jt, jf, k }, i) => {
    bytes.writeUInt16LE(code, i * INSTRUCTION_BYTES);
    bytes.writeUInt8(jt, i * INSTRUCTION_BYTES + 2);
    bytes.writeUInt8(jf, i * INSTRUCTION_BYTES + 3);
    bytes.writeUInt32LE(k, i * INSTRUCTION_BYTES + 4);
  });
  return bytes;
}
