/** Nodes with homes, started as a user would: `minikeep start --home`, in the foreground of a process of their own. */
import { REPOSITORY } from '@minikeep/testkit';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { minikeep, type Ended } from './minikeep.ts';

const START_TIMEOUT_MS = 60_000;
const MINIKEEP = [path.join(REPOSITORY, 'minikeep')];

export interface NodeDocument {
  readonly name: string;
  readonly state: string;
  readonly coordinator: boolean;
  readonly address: string;
  readonly certificate_ends: string;
  readonly error: { readonly code: string } | null;
}

/** What `minikeep start --json` said, and its end. */
export class RunningNode {
  readonly child: ChildProcess;
  readonly events: {
    type: string;
    process: string;
    address: string;
    pid: number;
    again: boolean;
    /** Of warnings. */
    code?: string;
    message?: string;
    next?: string;
  }[] = [];
  stderr = '';
  readonly ended: Promise<number | null>;

  constructor(home: string, args: readonly string[], program: readonly string[] = MINIKEEP) {
    const [command = '', ...before] = program;
    this.child = spawn(command, [...before, 'start', '--home', home, '--json', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1' },
    });
    let rest = '';
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.events.push(JSON.parse(line) as (typeof this.events)[number]);
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = new Promise((resolve) => this.child.once('close', (code) => resolve(code)));
  }

  /** Waits for a warning with that code. */
  async warned(code: string): Promise<{ readonly message: string; readonly next: string }> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const found = this.events.find((event) => event.type === 'warning' && event.code === code);
      if (found !== undefined) return { message: found.message ?? '', next: found.next ?? '' };
      if (Date.now() > deadline) throw new Error(`no ${code}: ${JSON.stringify(this.events)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The newest word of that process. */
  last(process: string) {
    return this.events.findLast((event) => event.type === 'listening' && event.process === process);
  }

  async listening(process: string): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (
      this.last(process) === undefined &&
      this.child.exitCode === null &&
      Date.now() < deadline
    )
      await new Promise((resolve) => setTimeout(resolve, 20));
    if (this.last(process) === undefined)
      throw new Error(`${process} did not start: ${this.stderr}`);
  }

  async stop(): Promise<number | null> {
    this.child.kill('SIGTERM');
    return this.ended;
  }
}

export class Homes {
  readonly root = mkdtempSync(path.join(tmpdir(), 'minikeep-homes-'));
  readonly running = new Set<RunningNode>();

  home(name: string): string {
    return path.join(this.root, name);
  }

  file(name: string, content: string): string {
    const file = path.join(this.root, name);
    writeFileSync(file, content);
    return file;
  }

  read(home: string, file: string): string {
    return readFileSync(path.join(this.home(home), file), 'utf8');
  }

  run(home: string, ...args: string[]): Promise<Ended> {
    return minikeep([...args, '--home', this.home(home)]);
  }

  /** The same with another program than this checkout's. */
  runBy(program: readonly string[], home: string, ...args: string[]): Promise<Ended> {
    return minikeep([...args, '--home', this.home(home)], { program });
  }

  /** A command that must go well; its document. */
  async json<T>(home: string, ...args: string[]): Promise<T> {
    const ended = await this.run(home, ...args, '--json');
    if (ended.code !== 0) throw new Error(`minikeep ${args.join(' ')}: ${ended.stderr}`);
    return JSON.parse(ended.stdout) as T;
  }

  start(home: string, ...args: string[]): Promise<RunningNode> {
    return this.startBy(MINIKEEP, home, ...args);
  }

  /** The same with another program than this checkout's. */
  async startBy(program: readonly string[], home: string, ...args: string[]): Promise<RunningNode> {
    const node = new RunningNode(this.home(home), args, program);
    this.running.add(node);
    void node.ended.then(() => this.running.delete(node));
    await node.listening('agent');
    return node;
  }

  /** The first node, with its coordinator, on ports of the kernel's choice. */
  async startFirst(home: string, ...args: string[]): Promise<RunningNode> {
    await this.json(home, 'init', '--name', 'lab', '--listen', '127.0.0.1:0', ...args);
    const node = await this.start(home);
    await node.listening('coordinator');
    return node;
  }

  async token(home: string, ...args: string[]): Promise<string> {
    const { token } = await this.json<{ token: string }>(home, 'invite', ...args);
    return this.file(`token-${Math.random()}`, token);
  }

  async nodes(home: string): Promise<NodeDocument[]> {
    return (await this.json<{ nodes: NodeDocument[] }>(home, 'nodes')).nodes;
  }

  /** Waits until those nodes are in those states. */
  async untilStates(home: string, states: Readonly<Record<string, string>>): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const found = await this.nodes(home);
      if (
        Object.entries(states).every(
          ([name, state]) => found.find((n) => n.name === name)?.state === state,
        )
      )
        return;
      if (Date.now() > deadline) throw new Error(`nodes are ${JSON.stringify(found)}`);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.running].map((node) => node.stop()));
    rmSync(this.root, { recursive: true, force: true });
  }
}
