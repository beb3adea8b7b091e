/** One machine of the stack: what can be done to it, each thing safe to do again. */
import type { BundleFacts } from '@minikeep/bundle';
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { look, type Looked } from './look.ts';
import { quote, type Answer, type RunOptions, type Ssh } from './ssh.ts';

const COPY_MS_MAX = 4 * 3600_000;
const INSTALL_MS_MAX = 15 * 60_000;
const COMMAND_MS_MAX = 5 * 60_000;
const SHORT_MS_MAX = 60_000;

export class Target {
  readonly ssh: Ssh;
  readonly name: string;
  #looked: Looked | undefined;

  constructor(ssh: Ssh) {
    this.ssh = ssh;
    this.name = ssh.node.name;
  }

  get looked(): Looked {
    if (this.#looked === undefined) throw new Error('it was not looked at yet');
    return this.#looked;
  }

  async look(): Promise<Looked> {
    this.#looked = await look(this.ssh);
    return this.#looked;
  }

  /** The command of the current version. */
  get program(): string {
    return `${this.looked.prefix}/bin/minikeep`;
  }

  /** How a person types it there. */
  get command(): string | undefined {
    if (this.#looked === undefined) return undefined;
    return this.#looked.asRoot === 'no' ? this.program : 'sudo minikeep';
  }

  /** Runs a script with root's rights where there are any, else as the user. */
  async run(script: string, options: Partial<RunOptions> = {}): Promise<Answer> {
    const { asRoot } = this.looked;
    return this.ssh.run(asRoot === 'sudo' ? `exec sudo -n sh -c ${quote(script)}` : script, {
      timeoutMs: COMMAND_MS_MAX,
      ...options,
    });
  }

  /** `minikeep WORDS --json`; its document. Throws its own error, with this machine's name. */
  async minikeep<T>(words: readonly string[], options: Partial<RunOptions> = {}): Promise<T> {
    const { code, stdout, stderr } = await this.run(
      [quote(this.program), ...words.map(quote), '--json'].join(' '),
      options,
    );
    if (code === 0) return this.#document(stdout) as T;
    throw this.#theirError(code, stderr, words);
  }

  /** A document that comes with exit 3 is an answer as well. */
  async checked<T>(words: readonly string[], options: Partial<RunOptions> = {}): Promise<T> {
    const { code, stdout, stderr } = await this.run(
      [quote(this.program), ...words.map(quote), '--json'].join(' '),
      options,
    );
    if (code === 0 || (code === EXIT.checkFailed && stdout.trim() !== ''))
      return this.#document(stdout) as T;
    throw this.#theirError(code, stderr, words);
  }

  #document(stdout: string): unknown {
    try {
      return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
    } catch (cause) {
      throw new MinikeepError(
        'bootstrap.odd_answer',
        `${this.name}: minikeep there did not answer in JSON`,
        { next: `Try it there: ${this.ssh.typed} ${this.program} --version`, cause },
      );
    }
  }

  #theirError(code: number, stderr: string, words: readonly string[]): MinikeepError {
    for (const line of stderr.split('\n').toReversed()) {
      try {
        const { error } = JSON.parse(line) as {
          error: { code: string; message: string; next: string };
        };
        return new MinikeepError(error.code, `${this.name}: ${error.message}`, {
          next: error.next,
          exitCode: code === EXIT.unreachable ? EXIT.unreachable : EXIT.failed,
        });
      } catch {
        // Another kind of line.
      }
    }
    return new MinikeepError(
      'bootstrap.command_failed',
      `${this.name}: \`minikeep ${words.join(' ')}\` ended with ${code}: ${stderr.trim().slice(-500)}`,
      { next: `Try it there: ${this.ssh.typed}` },
    );
  }

  get #stage(): string {
    return `${this.looked.userHome}/.minikeep-bootstrap`;
  }

  /** The archive lies there whole, with its digest, afterwards; goes on where an earlier copy was cut. */
  async copy(bundle: BundleFacts, onProgress: (share: number) => void): Promise<void> {
    const file = `${this.#stage}/${bundle.sha256}.tar.gz`;
    for (const last of [false, true]) {
      const { stdout } = await this.ssh.run(
        `umask 077; mkdir -p ${quote(this.#stage)} && if [ -f ${quote(file)} ]; then wc -c <${quote(file)}; else echo 0; fi; df -Pk ${quote(this.#stage)} | tail -n 1`,
        { timeoutMs: SHORT_MS_MAX },
      );
      const [size = '0', disk = ''] = stdout.split('\n');
      const there = Number(size.trim());
      if (there <= bundle.bytes) {
        this.#room(Number(disk.trim().split(/\s+/)[3]) * 1024, bundle.bytes - there);
        if (there < bundle.bytes)
          await this.ssh.run(`umask 077; cat >>${quote(file)}`, {
            input: { file: bundle.file, from: there },
            timeoutMs: COPY_MS_MAX,
            onSent: (bytes) => onProgress(bytes / bundle.bytes),
          });
        const sum = await this.ssh.run(
          `if command -v sha256sum >/dev/null; then sha256sum <${quote(file)}; else shasum -a 256 <${quote(file)}; fi`,
          { timeoutMs: INSTALL_MS_MAX },
        );
        if (sum.stdout.startsWith(bundle.sha256)) return;
      }
      await this.ssh.run(`rm -f ${quote(file)}`, { timeoutMs: SHORT_MS_MAX });
      if (last)
        throw new MinikeepError(
          'bootstrap.copy_damaged',
          `the archive arrives damaged on ${this.name}, twice`,
          {
            next: `Check that machine's disk (it may be full) and memory: ${this.ssh.typed} df -h`,
          },
        );
    }
  }

  #room(free: number, needed: number): void {
    if (!Number.isFinite(free) || free > needed + 64 * 1024 * 1024) return;
    throw new MinikeepError(
      'bootstrap.no_space',
      `${this.name} has ${Math.floor(free / 1e6)} MB free where the archive goes, ${Math.ceil(needed / 1e6)} MB are needed`,
      { next: 'Free space there, then run bootstrap again.' },
    );
  }

  /** `stage`: unpacks and checks, without making it the current version. */
  async install(bundle: BundleFacts, stage: boolean): Promise<void> {
    const file = `${this.#stage}/${bundle.sha256}.tar.gz`;
    const script = `${this.#stage}/install.sh`;
    const { prefix, asRoot } = this.looked;
    const { code, stderr } = await this.run(
      // It is finished even when nobody listens any more. Each tar has its own way to stop after the first match.
      `trap '' PIPE HUP; umask 022; case $(tar --version 2>/dev/null) in *GNU*) first=--occurrence=1 ;; *bsdtar*) first=-q ;; *) first= ;; esac; tar $first -xzOf ${quote(file)} minikeep/install.sh >${quote(script)} && sh ${quote(script)} ${quote(file)} --digest ${bundle.sha256} --prefix ${quote(prefix)}${asRoot === 'no' ? '' : ' --bin /usr/local/bin'}${stage ? ' --stage' : ''}`,
      { timeoutMs: INSTALL_MS_MAX },
    );
    if (code === 0) return;
    const [, what = 'install.failed', message = stderr.trim().slice(-500)] =
      /^error (install\.\w+): (.*)$/m.exec(stderr) ?? [];
    throw new MinikeepError(what, `${this.name}: ${message}`, {
      next: /^ {2}next: (.*)$/m.exec(stderr)?.[1] ?? `Look at that machine: ${this.ssh.typed}`,
    });
  }

  /** The command is found by its name, also where an installation was cut before it got there. */
  async link(): Promise<void> {
    const { asRoot, userHome } = this.looked;
    const folder = asRoot === 'no' ? `${userHome}/.local/bin` : '/usr/local/bin';
    // Another program of that name stays; minikeep is then started by its whole path.
    await this.run(
      `mkdir -p ${quote(folder)}; [ -e ${quote(`${folder}/minikeep`)} ] || ln -s ${quote(this.program)} ${quote(`${folder}/minikeep`)}`,
      { timeoutMs: SHORT_MS_MAX },
    );
  }

  /** The archive is not needed any more. */
  async tidy(): Promise<void> {
    await this.ssh.run(`rm -rf ${quote(this.#stage)}`, { timeoutMs: SHORT_MS_MAX });
  }

  /** Makes a version that lies there the current one, by one rename. */
  async switchTo(folder: string): Promise<void> {
    const { prefix } = this.looked;
    const node = `${prefix}/versions/${folder}/node/bin/node`;
    const { code, stderr } = await this.run(
      `ln -s ${quote(`versions/${folder}`)} ${quote(`${prefix}/current.new`)} && ${quote(node)} -e 'require("node:fs").renameSync(process.argv[1], process.argv[2])' ${quote(`${prefix}/current.new`)} ${quote(`${prefix}/current`)}; code=$?; rm -f ${quote(`${prefix}/current.new`)}; exit $code`,
    );
    if (code === 0) return;
    throw new MinikeepError(
      'bootstrap.switch_failed',
      `${this.name}: ${folder} could not be made the current version: ${stderr.trim().slice(-300)}`,
      { next: `Do it there: ln -sfn versions/${folder} ${prefix}/current` },
    );
  }
}
