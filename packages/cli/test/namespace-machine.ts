/** Machines made of network namespaces, joined by pairs of veth: for tests of what happens when cables are pulled. */
import { REPOSITORY } from '@minikeep/testkit';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import path from 'node:path';
import { minikeep, type Ended } from './minikeep.ts';

export const ip = (...args: string[]): string =>
  execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

export class Machine {
  readonly space: string;
  readonly home: string;
  readonly #number: number;
  #node: ChildProcess | undefined;

  constructor(folder: string, name: string, number: number) {
    this.#number = number;
    this.space = `mkl${process.pid}${name}`;
    this.home = path.join(folder, name);
    ip('netns', 'add', this.space);
    ip('-n', this.space, 'link', 'set', 'lo', 'up');
  }

  address(cable: number, number = this.#number): string {
    return `10.91.${cable}.${number}`;
  }

  /** Of one cable; the other end hears of it. */
  set(cable: number, state: 'up' | 'down'): void {
    ip('-n', this.space, 'link', 'set', `eth${cable}`, state);
  }

  readdress(cable: number, number: number): void {
    ip('-n', this.space, 'address', 'flush', 'dev', `eth${cable}`);
    ip(
      '-n',
      this.space,
      'address',
      'add',
      `${this.address(cable, number)}/24`,
      'dev',
      `eth${cable}`,
    );
  }

  run(args: readonly string[], onStdout?: (text: string) => void): Promise<Ended> {
    return minikeep([...args, '--home', this.home], {
      by: ['ip', 'netns', 'exec', this.space],
      ...(onStdout === undefined ? {} : { onStdout }),
    });
  }

  async json<T>(...args: string[]): Promise<T> {
    const ended = await this.run([...args, '--json']);
    if (ended.code !== 0) throw new Error(`minikeep ${args.join(' ')}: ${ended.stderr}`);
    return JSON.parse(ended.stdout) as T;
  }

  start(): void {
    const command = path.join(REPOSITORY, 'minikeep');
    const args = ['netns', 'exec', this.space, command, 'start', '--home', this.home];
    this.#node = spawn('ip', args, { stdio: 'ignore', env: { ...process.env, NO_COLOR: '1' } });
  }

  async stop(): Promise<void> {
    const node = this.#node;
    this.#node = undefined;
    if (node === undefined || node.exitCode !== null) return;
    const ended = new Promise((resolve) => node.once('close', resolve));
    node.kill('SIGTERM');
    await ended;
  }

  async remove(): Promise<void> {
    await this.stop();
    ip('netns', 'delete', this.space);
  }
}
