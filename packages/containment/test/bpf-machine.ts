/** A small machine for classic BPF as seccomp runs it: what the tests hold the compiled filter against. */
import { type Instruction, OP } from '../src/linux/bpf.ts';

export interface Call {
  readonly nr: number;
  readonly arch: number;
  readonly args: readonly bigint[];
}

/** struct seccomp_data, little-endian. */
function dataOf({ nr, arch, args }: Call): Buffer {
  const b = Buffer.alloc(64);
  b.writeInt32LE(nr | 0, 0);
  b.writeUInt32LE(arch >>> 0, 4);
  args.forEach((a, i) => b.writeBigUInt64LE(BigInt.asUintN(64, a), 16 + 8 * i));
  return b;
}

/** The action, and whether the argument registers were looked at. Throws on a program that leaves its bounds. */
export function run(
  program: readonly Instruction[],
  call: Call,
): { action: number; looked: boolean } {
  const data = dataOf(call);
  let a = 0;
  let looked = false;
  for (let at = 0; ; at++) {
    const step = program[at];
    if (step === undefined) throw new Error(`the program has no instruction ${at}`);
    const { code, jt, jf, k } = step;
    const jump = (yes: boolean): void => {
      at += yes ? jt : jf;
    };
    if (code === OP.ret) return { action: k, looked };
    if (code === OP.load) {
      a = data.readUInt32LE(k);
      looked ||= k >= 16;
    } else if (code === OP.and) a = (a & k) >>> 0;
    else if (code === OP.jumpEqual) jump(a === k);
    else if (code === OP.jumpGreaterEqual) jump(a >= k);
    else if (code === OP.jumpSet) jump((a & k) !== 0);
    else throw new Error(`no instruction 0x${code.toString(16)}`);
  }
}
