/** Runs the hostile program in a real sandbox, sends it its orders, and collects what was recorded. */
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { REPOSITORY } from '@minikeep/testkit';
import {
  type Sandbox,
  type SandboxPlatform,
  sandboxPlatform,
  type SandboxSpec,
  type Violation,
  type ViolationKind,
} from '../../src/index.ts';
import { X64 } from '../../src/linux/arch.ts';

export const DIST = path.join(REPOSITORY, 'dist');
const HOSTILE = path.join(REPOSITORY, 'packages/containment/test/hostile');
const ANSWER_MS_MAX = 20_000;

/** An argument as attacker.mjs understands it. */
export type Argument =
  | number
  | 'self'
  | { big: string }
  | { s: string; keep?: string }
  | { hex: string; parts?: { at: number; of: Argument }[]; keep?: string }
  | { zeros: number; parts?: { at: number; of: Argument }[]; keep?: string }
  | { ref: string };

export interface CallResult {
  readonly result: number;
  readonly errno: number;
  readonly buffers: readonly string[];
}

let platform: () => Promise<Pick<SandboxPlatform, 'launch'>> = async () => sandboxPlatform();
let dropped = process.getuid?.() === 0;

/** All sandboxes of this test file are started by a process of an ordinary user. */
export function startedByUser(by: () => Promise<Pick<SandboxPlatform, 'launch'>>): void {
  platform = by;
  dropped = false;
}

/** Whether engines become users of their own: root starts them. */
export const haveOwnUsers = (): boolean => dropped;

/** Also for users other than the test's. */
export function testFolder(name: string, parent = tmpdir()): string {
  const folder = mkdtempSync(path.join(parent, `minikeep-${name}-`));
  chmodSync(folder, 0o777);
  return folder;
}

/** A folder with the hostile program and a stand-in for a model; remove it with `cleanUp`. */
export function hostileFolder(parent = tmpdir()): {
  folder: string;
  data: string;
  cleanUp: () => void;
} {
  const folder = testFolder('hostile', parent);
  copyFileSync(path.join(HOSTILE, 'attacker.mjs'), path.join(folder, 'attacker.mjs'));
  copyFileSync(path.join(DIST, 'koffi.node'), path.join(folder, 'koffi.node'));
  const data = path.join(folder, 'model.gguf');
  writeFileSync(data, Buffer.alloc(8192, 'GGUF'));
  return { folder, data, cleanUp: () => rmSync(folder, { recursive: true, force: true }) };
}

export class Attacked {
  readonly sandbox: Sandbox;
  readonly violations: Violation[] = [];
  readonly #lines: AsyncIterator<string>;
  readonly data: string;
  #markers = 0;
  #from = 0;

  private constructor(sandbox: Sandbox, data: string) {
    this.sandbox = sandbox;
    this.data = data;
    sandbox.onViolation((violation) => this.violations.push(violation));
    this.#lines = createInterface({ input: sandbox.output })[Symbol.asyncIterator]();
  }

  static async start(folder: string, spec: Partial<SandboxSpec> = {}): Promise<Attacked> {
    const data = path.join(folder, 'model.gguf');
    const sandbox = await (
      await platform()
    ).launch({
      purpose: 'stage',
      entry: path.join(folder, 'attacker.mjs'),
      args: [],
      files: [data],
      limits: { violations_max: 10_000, reports_per_kind_max: 10_000 },
      ...spec,
    });
    const attacked = new Attacked(sandbox, data);
    await attacked.#answer();
    return attacked;
  }

  async #answer(timeoutMs = ANSWER_MS_MAX): Promise<Record<string, unknown>> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the hostile program does not answer')), timeoutMs);
    });
    try {
      const next = await Promise.race([this.#lines.next(), late]);
      if (next.done === true) throw new Error('the hostile program has ended');
      return JSON.parse(next.value) as Record<string, unknown>;
    } finally {
      clearTimeout(timer);
    }
  }

  async order(
    verb: string,
    details: object = {},
    timeoutMs?: number,
  ): Promise<Record<string, unknown>> {
    this.send(verb, details);
    return this.#answer(timeoutMs);
  }

  /** An order whose answers never end by themselves. */
  send(verb: string, details: object = {}): void {
    this.sandbox.input.write(`${JSON.stringify({ verb, ...details })}\n`);
  }

  /** Everything that the program still says, until it ends. A last line that was cut off is left out. */
  async lastWords(): Promise<Record<string, unknown>[]> {
    const said: Record<string, unknown>[] = [];
    for (;;) {
      const next = await this.#lines.next();
      if (next.done === true) return said;
      if (next.value.endsWith('}')) said.push(JSON.parse(next.value) as Record<string, unknown>);
    }
  }

  /** One system call, by name. */
  async call(name: string, ...args: Argument[]): Promise<CallResult> {
    const nr = X64.numbers[name];
    if (nr === undefined) throw new Error(`no such call: ${name}`);
    return this.raw(nr, ...args);
  }

  async raw(nr: number, ...args: Argument[]): Promise<CallResult> {
    return (await this.order('call', { nr, args })) as unknown as CallResult;
  }

  /** Opens the model: from here on the engine counts as hostile. */
  async touchModel(): Promise<void> {
    const { result } = await this.call('openat', -100, { s: this.data }, 0, 0);
    if (result < 0) throw new Error('the model could not be opened');
    await this.call('close', result);
  }

  async sealed(): Promise<this> {
    await this.touchModel();
    await this.sandbox.seal();
    return this;
  }

  /** Before a test on an engine that has been attacked before: `recorded` looks at later records only. */
  async forget(): Promise<void> {
    this.#from = (await this.#mark()) + 1;
  }

  /** Records that arrived; waits for `count` of them. */
  async recorded(operation: string, count = 1): Promise<Violation[]> {
    for (let i = 0; i < 100; i++) {
      const found = this.violations
        .slice(this.#from)
        .filter((v) => v.operation === operation && !v.target.startsWith('/marker/'));
      if (found.length >= count) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(
      `${operation} was not recorded ${count} times: ${JSON.stringify(this.violations)}`,
    );
  }

  /**
   * What was recorded because of `action`. Records come by another way than answers, so a marker follows the action:
   * everything before it has arrived when it has.
   */
  async provoke(action: () => Promise<unknown>): Promise<Violation[]> {
    const start = await this.#mark();
    await action();
    const end = await this.#mark();
    return this.violations.slice(start + 1, end);
  }

  async #mark(): Promise<number> {
    const target = `/marker/${this.#markers++}`;
    await this.call('access', { s: target }, 0);
    for (let i = 0; i < 500; i++) {
      const at = this.violations.findIndex((v) => v.target === target);
      if (at >= 0) return at;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`${target} was not recorded`);
  }

  /** What was handed over until now. */
  async filesRead(): Promise<readonly string[]> {
    await this.#mark();
    return this.sandbox.filesRead;
  }

  async end(): Promise<Awaited<Sandbox['exited']>> {
    return this.sandbox.kill('the test is over');
  }
}

export const kindOf = (violations: readonly Violation[]): ViolationKind | undefined =>
  violations[0]?.kind;

/** struct sockaddr_in. */
export function inet(address: string, port: number): string {
  const b = Buffer.alloc(16);
  b.writeUInt16LE(2, 0);
  b.writeUInt16BE(port, 2);
  address.split('.').forEach((part, i) => b.writeUInt8(Number(part), 4 + i));
  return b.toString('hex');
}

/** struct sockaddr_un. */
export function unixAddress(name: string): string {
  const b = Buffer.alloc(2 + name.length + 1);
  b.writeUInt16LE(1, 0);
  b.write(name, 2, 'latin1');
  return b.toString('hex');
}

/** A DNS question of type A. */
export function dnsQuestion(name: string): string {
  const labels = name
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  const header = Buffer.from('123401000001000000000000', 'hex');
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, 1, 0, 1])]).toString('hex');
}
