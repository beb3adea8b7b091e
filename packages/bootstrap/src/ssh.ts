/**
 * A machine reached by the system's own ssh: its keys, its agent and its known hosts are used as they are, nothing is
 * asked (BatchMode), and a machine whose key is not known is refused. One connection carries all commands.
 */
import { spawn } from 'node:child_process';
import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import type { StackNode } from '@minikeep/planner';

const CONNECT_SECONDS = 10;
const ALIVE_SECONDS = 10;
const ALIVE_COUNT = 3;
/** The connection waits so long for a next command. */
const PERSIST_SECONDS = 60;
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
/** ssh's own exit code: the command did not run. */
const SSH_FAILED = 255;

export interface SshOptions {
  /** Short: a path of a socket has about 100 characters. */
  readonly socketFolder: string;
  /** Instead of ~/.ssh/config. */
  readonly configFile?: string | undefined;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | { readonly file: string; readonly from: number };
  readonly timeoutMs: number;
  /** Bytes of `input` that were handed over. */
  readonly onSent?: (bytes: number) => void;
}

/** For any login shell: single quotes mean the same everywhere. */
export const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

export class Ssh {
  readonly node: StackNode;
  readonly #options: SshOptions;

  constructor(node: StackNode, options: SshOptions) {
    this.node = node;
    this.#options = options;
  }

  get host(): string {
    return this.node.ssh?.host ?? '';
  }

  /** As a person would type it. */
  get typed(): string {
    return ['ssh', ...this.#place()].join(' ');
  }

  /** Runs a script of sh. Throws `ssh.*` when ssh itself failed, or the signal's reason. */
  async run(script: string, options: RunOptions): Promise<Answer> {
    const { signal } = this.#options;
    signal.throwIfAborted();
    const child = spawn(
      'ssh',
      [...this.#flags(), ...this.#place(), `exec sh -c ${quote(script)}`],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
        env: { ...process.env, LC_ALL: 'C' },
        // Ctrl-C is ours to pass on: it must not reach a command in the middle of a switch.
        detached: true,
      },
    );
    const end = (): void => void child.kill('SIGTERM');
    signal.addEventListener('abort', end, { once: true });
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, options.timeoutMs);
    let source: Readable | undefined;
    try {
      const stdout = collect(child.stdout);
      const stderr = collect(child.stderr);
      const closed = new Promise<number>((resolve, reject) => {
        child.once('error', (cause) => reject(noSsh(cause)));
        child.once('close', (code) => resolve(code ?? -1));
      });
      child.stdin.on('error', () => {});
      source = give(child.stdin, options);
      const code = await closed;
      const answer = { code, stdout: await stdout, stderr: await stderr };
      signal.throwIfAborted();
      if (late)
        throw this.#fault(
          'ssh.silent',
          `${this.host} did not answer within ${Math.round(options.timeoutMs / 1000)} s`,
          `See what that machine does: ${this.typed}`,
        );
      if (code === SSH_FAILED) throw this.#failed(answer.stderr);
      return answer;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      source?.destroy();
    }
  }

  /** Ends the connection that was kept. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      const child = spawn('ssh', [...this.#flags(), '-O', 'exit', ...this.#place()], {
        stdio: 'ignore',
      });
      child.once('error', () => resolve());
      child.once('close', () => resolve());
    });
  }

  #flags(): string[] {
    const { configFile, socketFolder } = this.#options;
    return [
      ...(configFile === undefined ? [] : ['-F', configFile]),
      '-T',
      '-oBatchMode=yes',
      '-oStrictHostKeyChecking=yes',
      '-oForwardAgent=no',
      '-oForwardX11=no',
      '-oClearAllForwardings=yes',
      '-oPermitLocalCommand=no',
      `-oConnectTimeout=${CONNECT_SECONDS}`,
      `-oServerAliveInterval=${ALIVE_SECONDS}`,
      `-oServerAliveCountMax=${ALIVE_COUNT}`,
      '-oControlMaster=auto',
      `-oControlPath=${socketFolder}/%C`,
      `-oControlPersist=${PERSIST_SECONDS}`,
    ];
  }

  #place(): string[] {
    const { ssh } = this.node;
    if (ssh === undefined) return [];
    return [
      ...(ssh.port === 22 ? [] : ['-p', String(ssh.port)]),
      ...(ssh.identity_file === undefined ? [] : ['-oIdentitiesOnly=yes', '-i', ssh.identity_file]),
      ssh.user === undefined ? ssh.host : `${ssh.user}@${ssh.host}`,
    ];
  }

  #failed(stderr: string): MinikeepError {
    const { host } = this;
    const last = stderr.trim().split('\n').at(-1) ?? '';
    if (/REMOTE HOST IDENTIFICATION HAS CHANGED/.test(stderr))
      return this.#fault(
        'ssh.host_key_changed',
        `${host} shows another key than the one that is known: it was set up anew, or somebody stands in between`,
        `If it was set up anew: ssh-keygen -R ${host}, then ${this.typed} by hand, and compare the key`,
        EXIT.denied,
      );
    if (/Host key verification failed|host key is known for/.test(stderr))
      return this.#fault(
        'ssh.unknown_host',
        `the key of ${host} is not known here, so nobody knows who answers`,
        `Connect once by hand (${this.typed}) and compare the fingerprint with the one on that machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`,
        EXIT.denied,
      );
    if (/Permission denied|Too many authentication failures/.test(stderr))
      return this.#fault(
        'ssh.denied',
        `${host} does not let us in: ${last}`,
        `Put your key there: ssh-copy-id ${this.#place().join(' ')}; and see that it is the right user (ssh.user in the stack file)`,
        EXIT.denied,
      );
    if (
      /refused|timed out|No route|unreachable|Could not resolve|Connection closed|reset by/i.test(
        stderr,
      )
    )
      return this.#fault(
        'ssh.unreachable',
        `${host} can't be reached by ssh: ${last}`,
        'See that it is on and its cable is in, and that ssh is on there (macOS: System Settings > General > Sharing > Remote Login).',
        EXIT.unreachable,
      );
    return this.#fault(
      'ssh.failed',
      `ssh to ${host} failed: ${last}`,
      `Try it by hand: ${this.typed}`,
    );
  }

  #fault(
    code: string,
    message: string,
    next: string,
    exitCode: (typeof EXIT)[keyof typeof EXIT] = EXIT.failed,
  ): MinikeepError {
    return new MinikeepError(code, message, { next, exitCode });
  }
}

function give(stdin: NodeJS.WritableStream, { input, onSent }: RunOptions): Readable | undefined {
  if (input === undefined || typeof input === 'string') {
    stdin.end(input ?? '');
    return undefined;
  }
  const source = createReadStream(input.file, { start: input.from, highWaterMark: 256 * 1024 });
  let sent = input.from;
  source.on('data', (piece) => onSent?.((sent += piece.length)));
  source.on('error', () => stdin.end());
  source.pipe(stdin);
  return source;
}

async function collect(stream: Readable): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes <= OUTPUT_BYTES_MAX) pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

const noSsh = (cause: Error): MinikeepError =>
  new MinikeepError('ssh.missing', `ssh can't be started here: ${cause.message}`, {
    next: 'Install OpenSSH’s client on this machine (Debian: apt-get install openssh-client).',
    cause,
  });
