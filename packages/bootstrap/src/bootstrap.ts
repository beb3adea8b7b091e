/**
 * A whole stack: every machine on its own, in parallel, the others' joining after the coordinator runs. Nothing is
 * remembered here: each run asks the machines what they are, so a run that was cut goes on by being run again.
 */
import type { BundleFacts } from '@minikeep/bundle';
import type { Stack, StackNode } from '@minikeep/planner';
import { EXIT, MinikeepError, toMinikeepError } from '@minikeep/protocol';
import { Cluster } from './cluster.ts';
import { isService, startNode } from './node-life.ts';
import { Ssh, type SshOptions } from './ssh.ts';
import { Target } from './target.ts';
import { upgrade } from './upgrade.ts';

/** The doctor's findings that installing the service mends. */
const SET_BY_SERVICE: readonly string[] = ['sleep', 'firewall'];
const DOCTOR_MS_MAX = 5 * 60_000;

export type Step =
  | 'connecting'
  | 'copying'
  | 'installing'
  | 'checking'
  | 'waiting for the coordinator'
  | 'making the cluster'
  | 'joining'
  | 'starting'
  | 'waiting until it is up'
  | 'upgrading'
  | 'going back'
  | 'up'
  | 'failed';

export interface BootstrapOptions extends SshOptions {
  readonly stack: Stack;
  /** One for each platform at most; none: every machine has minikeep already. */
  readonly bundles: readonly BundleFacts[];
  /** `share`: 0 to 1, of what is copied. */
  readonly onStep: (node: string, step: Step, share?: number) => void;
}

export interface NodeResult {
  readonly name: string;
  readonly state: 'up' | 'failed';
  readonly seconds: number;
  readonly byHand: readonly string[];
  readonly error: MinikeepError | undefined;
  /** How `minikeep` is typed there; undefined: it was not reached. */
  readonly command: string | undefined;
  /** What changed: installed, upgraded, joined; empty when all was so before. */
  readonly did: readonly string[];
}

/** Throws `bootstrap.*` for what is wrong before any machine is touched, and the signal's reason. */
export async function bootstrap(options: BootstrapOptions): Promise<readonly NodeResult[]> {
  const { stack, signal } = options;
  checkStack(options);
  const targets = stack.nodes.map((node) => new Target(new Ssh(node, options)));
  const coordinator = targets.find(({ ssh }) => ssh.node.role === 'coordinator');
  if (coordinator === undefined) throw new Error('a checked stack has a coordinator');
  const cluster = new Cluster(coordinator, stack.cluster, signal);
  const runs = targets.map((target) => new Run(target, options));
  const lead = runs.find(({ target }) => target === coordinator);
  try {
    await Promise.all(runs.map((run) => run.do(() => run.look())));
    signal.throwIfAborted();
    const members = runs.filter((run) => run === lead || run.isMember);
    // A new machine has the new program: it joins when the others have it too, for an older one may not understand it.
    const settled = settle(cluster, members, options);
    await Promise.all([
      settled,
      ...runs
        .filter((run) => !members.includes(run))
        .map((run) =>
          run.do(async () => {
            await run.prepare();
            run.step('waiting for the coordinator');
            await settled;
            if (lead?.serves !== true) throw coordinatorFailed(coordinator.name);
            await run.join(cluster);
          }),
        ),
    ]);
    signal.throwIfAborted();
    for (const run of runs) await run.end();
    return runs.map((run) => run.result());
  } finally {
    await Promise.all(targets.map(({ ssh }) => ssh.close()));
  }
}

/** The coordinator and what belongs to its cluster: all up, then all of one version. */
async function settle(
  cluster: Cluster,
  members: readonly Run[],
  options: BootstrapOptions,
): Promise<void> {
  const made = Promise.withResolvers<boolean>();
  await Promise.all(
    members.map(async (run) => {
      const leads = run.target === cluster.coordinator;
      await run.do(async () => {
        await run.prepare();
        if (leads) {
          run.step('making the cluster');
          await cluster.make();
          await run.start(cluster);
          run.serves = true;
          made.resolve(true);
          return;
        }
        run.step('waiting for the coordinator');
        if (!(await made.promise)) throw coordinatorFailed(cluster.coordinator.name);
        await run.join(cluster);
      });
      if (leads) made.resolve(run.serves);
    }),
  );
  options.signal.throwIfAborted();
  await upgradeAll(cluster, members, options);
}

const coordinatorFailed = (name: string): MinikeepError =>
  new MinikeepError('bootstrap.coordinator_failed', `the coordinator, ${name}, is not there`, {
    next: `Mend ${name} first (its error stands beside its name), then run bootstrap again.`,
  });

function checkStack({ stack, bundles }: BootstrapOptions): void {
  const without = stack.nodes.filter(({ ssh }) => ssh === undefined).map(({ name }) => name);
  if (without.length > 0)
    throw new MinikeepError(
      'bootstrap.no_ssh',
      `the stack file does not say how to reach ${without.join(', ')}`,
      { next: 'Give each node `ssh: { host: … }`.', exitCode: EXIT.usage },
    );
  const platforms = new Set(bundles.map(({ platform }) => platform));
  if (platforms.size < bundles.length)
    throw new MinikeepError('bootstrap.same_platform', 'two bundles are for the same platform', {
      next: 'Give one bundle for each platform.',
      exitCode: EXIT.usage,
    });
  const versions = new Set(bundles.map(({ version }) => version));
  if (versions.size > 1)
    throw new MinikeepError(
      'bootstrap.two_versions',
      `the bundles are of different versions: ${[...versions].join(', ')}`,
      { next: 'Make both of the same version.', exitCode: EXIT.usage },
    );
  const lacking =
    bundles.length === 0 ? [] : stack.nodes.filter((node) => !platforms.has(platformOf(node)));
  if (lacking.length > 0)
    throw new MinikeepError(
      'bootstrap.no_bundle',
      `there is no bundle for ${lacking.map(({ name, platform }) => `${name} (${platform})`).join(', ')}`,
      {
        next: `Make it: minikeep bundle FILE --platform ${platformOf(lacking[0] as StackNode)}; --bundle and --digest may be given twice, in the same order.`,
        exitCode: EXIT.usage,
      },
    );
}

const platformOf = ({ platform }: StackNode): BundleFacts['platform'] =>
  platform === 'macos' ? 'darwin-arm64' : 'linux-x64';

/** One machine's way through a bootstrap. */
class Run {
  readonly target: Target;
  readonly did: string[] = [];
  readonly byHand: string[] = [];
  readonly #options: BootstrapOptions;
  readonly #started = performance.now();
  #seconds = 0;
  error: MinikeepError | undefined;
  /** The version that was current before, when a newer one lies ready beside it. */
  from: string | undefined;
  /** It is the coordinator, and up. */
  serves = false;

  constructor(target: Target, options: BootstrapOptions) {
    this.target = target;
    this.#options = options;
  }

  get bundle(): BundleFacts | undefined {
    return this.#options.bundles.find(
      ({ platform }) => platform === platformOf(this.target.ssh.node),
    );
  }

  step(step: Step, share?: number): void {
    this.#options.onStep(this.target.name, step, share);
  }

  /** Belongs to a cluster, or nobody knows: it was not reached. */
  get isMember(): boolean {
    return this.error !== undefined || this.target.looked.member !== undefined;
  }

  async look(): Promise<void> {
    this.step('connecting');
    await this.target.look();
  }

  /** What goes wrong on one machine is said beside its name; the others go on. Nothing is done where something did. */
  async do(work: () => Promise<void>): Promise<void> {
    if (this.error !== undefined) return;
    try {
      await work();
    } catch (thrown) {
      this.#options.signal.throwIfAborted();
      this.fail(toMinikeepError(thrown));
    }
    this.#seconds = (performance.now() - this.#started) / 1000;
  }

  fail(error: MinikeepError): void {
    this.error ??= error;
    this.step('failed');
  }

  /** Has the program then. A newer one of a member is only laid ready. */
  async prepare(): Promise<void> {
    const { target, bundle } = this;
    const { looked } = target;
    if (bundle === undefined) {
      if (looked.current === undefined)
        throw new MinikeepError('bootstrap.no_bundle', `${target.name} has no minikeep yet`, {
          next: 'Give the bundle to install: --bundle FILE --digest SHA256',
          exitCode: EXIT.usage,
        });
      return;
    }
    const upgrading =
      looked.member !== undefined &&
      looked.current !== undefined &&
      looked.current !== bundle.folder;
    if (looked.current !== bundle.folder) {
      if (!looked.versions.includes(bundle.folder)) {
        this.step('copying', 0);
        await target.copy(bundle, (share) => this.step('copying', share));
        this.step('installing');
        await target.install(bundle, upgrading);
        await target.tidy();
        if (!upgrading) this.did.push('installed');
      } else if (!upgrading) await target.switchTo(bundle.folder);
      if (upgrading) this.from = looked.current;
      await target.look();
    }
    await target.link();
    // A node that runs was checked when it began; an engine of ours would only be in its way.
    if (looked.member === undefined) await this.#check();
  }

  async #check(): Promise<void> {
    this.step('checking');
    const { findings } = await this.target.checked<{
      findings: { id: string; level: string; what: string; next: string }[];
    }>(['doctor', '--no-model-check'], { timeoutMs: DOCTOR_MS_MAX });
    const blocking = findings.filter(({ level }) => level === 'blocks');
    if (blocking.length > 0)
      throw new MinikeepError(
        'bootstrap.blocked',
        `${this.target.name} can't be a node: ${blocking.map(({ what }) => what).join('; ')}`,
        { next: blocking.map(({ next }) => next).join('; '), exitCode: EXIT.checkFailed },
      );
    const set = isService(this.target) ? SET_BY_SERVICE : [];
    for (const { id, level, what, next } of findings)
      if (level === 'warning' && !set.includes(id)) this.byHand.push(`${what}. ${next}`);
  }

  async join(cluster: Cluster): Promise<void> {
    this.step('joining');
    if (await cluster.join(this.target)) this.did.push('joined');
    await this.start(cluster);
  }

  async start(cluster: Cluster): Promise<void> {
    this.step('starting');
    this.byHand.push(...(await startNode(this.target)));
    this.step('waiting until it is up');
    await cluster.untilUp(this.target.name);
    if (this.from === undefined) this.step('up');
  }

  async end(): Promise<void> {
    if (this.error === undefined && this.bundle !== undefined)
      await this.do(() => this.target.tidy());
  }

  result(): NodeResult {
    const { target, error, did } = this;
    return {
      name: target.name,
      state: error === undefined ? 'up' : 'failed',
      seconds: this.#seconds,
      byHand: [...new Set(this.byHand)],
      command: target.command,
      error,
      did,
    };
  }
}

/** Node by node, the coordinator first; only when every machine that belongs to the cluster is well. */
async function upgradeAll(
  cluster: Cluster,
  runs: readonly Run[],
  { signal }: BootstrapOptions,
): Promise<void> {
  const waiting = runs.filter(({ from }) => from !== undefined);
  if (waiting.length === 0) return;
  const broken = runs.find(({ error }) => error !== undefined);
  if (broken !== undefined) {
    for (const run of waiting)
      if (run.error === undefined)
        run.fail(
          new MinikeepError(
            'bootstrap.not_upgraded',
            `${run.target.name} was not upgraded, because ${broken.target.name} is not well`,
            { next: `Mend ${broken.target.name}, then run bootstrap again.` },
          ),
        );
    return;
  }
  const ordered = waiting.toSorted(
    (a, b) => Number(b.target === cluster.coordinator) - Number(a.target === cluster.coordinator),
  );
  await upgrade(
    cluster,
    ordered.map((run) => ({
      target: run.target,
      from: run.from ?? '',
      to: run.bundle?.folder ?? '',
      version: run.bundle?.version ?? '',
      onStep: (step: 'upgrading' | 'going back' | 'up') => run.step(step),
      upgraded: () => void run.did.push('upgraded'),
      failed: (error: MinikeepError) => {
        run.did.length = 0;
        run.fail(error);
      },
    })),
    signal,
  );
}
