// Shows a cluster's life on one Linux machine: five machines of network namespaces, each with its own files, processes,
// sshd and (where this kernel lets it) systemd, are set up from a bundle alone and go through what happens to machines.
// Needs root, ssh, sshd and ip. Everything ends with it. See CONTRIBUTING.md.
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Machines, systemdPossible, until } from './namespaces/namespaces.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const MINIKEEP = path.join(ROOT, 'minikeep');
const COUNT = 5;
const QUESTION = 'What is a stage?';
const UP_MS_MAX = 180_000;
/** As the cluster calls it. */
const MODEL = 'model';

const { values: flags } = parseArgs({
  options: {
    init: { type: 'string' },
    bundle: { type: 'string' },
    digest: { type: 'string' },
    model: { type: 'string' },
    rate: { type: 'string' },
    upgrade: { type: 'boolean', default: false },
    inside: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
/** A large model takes seconds for each on a small machine. */
const TOKENS_MAX = flags.model === undefined ? 60 : 8;
const say = (text = '') => process.stdout.write(`${text}\n`);

if (flags.help) {
  say(`usage: sudo node scripts/five-namespaces.mjs [--init systemd|sshd] [--bundle FILE --digest SHA256] [--model FILE] [--rate 1gbit] [--upgrade]
  --init     what process 1 of the machines is (default: systemd where this kernel's control groups allow it)
  --bundle   what the machines are set up from (default: made first, from this checkout)
  --model    a GGUF file, which lies on the first machine (default: the embedded model, out of the bundle)
  --rate     of each machine's cable, both ways, as tc writes it (default: as fast as it goes)
  --upgrade  upgrades to a newer version at the end, once to one that fails and once to one that does not`);
  process.exit(0);
}
if (flags.inside === undefined) process.exit(outside());
await inside(flags.inside);

/** Checks, makes the bundle, and starts itself again in namespaces that end with it. */
function outside() {
  const missing = ['ssh', 'sshd', 'ssh-keygen', 'ip', 'unshare'].filter(
    (name) => !['/usr/bin', '/usr/sbin', '/bin', '/sbin'].some((at) => existsSync(`${at}/${name}`)),
  );
  if (process.platform !== 'linux' || process.getuid() !== 0 || missing.length > 0) {
    say(
      process.platform !== 'linux' || missing.length === 0
        ? 'error five.root: this takes root on Linux\n  next: sudo node scripts/five-namespaces.mjs'
        : `error five.tools: missing: ${missing.join(', ')}\n  next: apt-get install openssh-server openssh-client iproute2 util-linux`,
    );
    return 1;
  }
  const folder = mkdtempSync(path.join(tmpdir(), 'minikeep-five-'));
  try {
    let { bundle, digest } = flags;
    if (bundle === undefined) {
      bundle = path.join(folder, 'minikeep-linux-x64.tar.gz');
      const made = step('bundle for linux-x64', () =>
        mustRun(MINIKEEP, 'bundle', bundle, '--platform', 'linux-x64', '--json'),
      );
      digest = JSON.parse(made).sha256;
    }
    return spawnSync(
      'unshare',
      [
        ...'--mount --net --pid --fork --kill-child --mount-proc'.split(' '),
        process.execPath,
        fileURLToPath(import.meta.url),
        '--inside',
        folder,
        '--bundle',
        path.resolve(bundle),
        '--digest',
        digest ?? '',
        '--init',
        flags.init ?? (systemdPossible() ? 'systemd' : 'sshd'),
        ...(flags.model === undefined ? [] : ['--model', path.resolve(flags.model)]),
        ...(flags.rate === undefined ? [] : ['--rate', flags.rate]),
        ...(flags.upgrade ? ['--upgrade'] : []),
      ],
      { stdio: 'inherit' },
    ).status;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function mustRun(file, ...args) {
  const { status, stdout, stderr } = spawnSync(file, args, {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status !== 0)
    throw new Error(`${path.basename(file)} ${args[0]} ended with ${status}:\n${stderr}${stdout}`);
  return stdout;
}

/** Runs `work` and says how long it took, with what it hands back. */
function step(what, work) {
  const begun = performance.now();
  const end = (result) => {
    say(`${((performance.now() - begun) / 1000).toFixed(1).padStart(7)} s  ${what}`);
    return result;
  };
  const result = work();
  return result instanceof Promise ? result.then(end) : end(result);
}

async function inside(folder) {
  const machines = new Machines({
    folder: path.join(folder, 'machines'),
    init: flags.init,
    hidden: ROOT,
    rate: flags.rate,
  });
  const begun = performance.now();
  let code = 0;
  try {
    await life(machines, folder);
    say(`\nAll of it is shown, in ${((performance.now() - begun) / 1000).toFixed(0)} s.`);
  } catch (error) {
    say(`\nFAILED: ${error.message}`);
    code = 1;
  } finally {
    await machines.close();
  }
  process.exit(code);
}

async function life(machines, folder) {
  const names = Array.from({ length: COUNT }, (_, i) => `mini-${i + 1}`);
  const [first, , third, , last] = names;
  const must = (name, command) => {
    const { code, stdout, stderr } = machines.ssh(name, `PATH=$PATH:/usr/local/bin; ${command}`);
    if (code !== 0)
      throw new Error(`on ${name}, \`${command}\` ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  };
  const json = (command) => JSON.parse(must(first, `minikeep ${command} --json`));
  const rows = () => json('nodes').nodes;
  const states = () =>
    rows()
      .map(({ name, state }) => `${name} ${state}`)
      .join(', ');
  const deployment = () => json('status').deployments[0];
  const engines = () =>
    deployment()
      .stages.map(({ engine_pid: pid }) => pid)
      .join(' ');
  const ask = (model) => {
    const line = must(
      first,
      `minikeep run --home /var/lib/minikeep ${model} '${QUESTION}' --max-tokens ${TOKENS_MAX} --temperature 0`,
    );
    return line.trim().split('\n').at(-1).trim();
  };
  const isUp = () => {
    try {
      return deployment().state === 'ready';
    } catch {
      return false;
    }
  };

  say(`Process 1 of each machine: ${flags.init}. The repository is hidden from them.`);
  await step(`${COUNT} machines switched on, sshd answers`, () =>
    Promise.all(names.map((name, i) => machines.boot(name, i + 1))),
  );
  const stack = path.join(folder, 'stack.yaml');
  writeFileSync(
    stack,
    `cluster: lab\nnodes:\n${names
      .map(
        (name, i) =>
          `  - { name: ${name}, ${i === 0 ? 'role: coordinator, ' : ''}platform: linux, ssh: { host: ${machines.address(i + 1)}, user: root }, hardware: { memory: 8 GiB } }\n`,
      )
      .join('')}`,
  );
  const bootstrap = (bundle, digest) => {
    const args = [
      'bootstrap',
      stack,
      '--bundle',
      bundle,
      '--digest',
      digest,
      '--ssh-config',
      machines.sshConfig(),
      '--json',
    ];
    const { status, stdout, stderr } = spawnSync(MINIKEEP, args, { encoding: 'utf8' });
    const done = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line || '{}'))
      .at(-1);
    return { status, stderr, nodes: done.nodes ?? [] };
  };
  const mustBootstrap = (...args) => {
    const done = bootstrap(...args);
    if (done.status !== 0)
      throw new Error(
        `bootstrap ended with ${done.status}: ${done.stderr}${JSON.stringify(done.nodes, null, 1)}`,
      );
    return done.nodes;
  };
  const nodes = step('bootstrap from the bundle: installed, checked, started, joined', () =>
    mustBootstrap(flags.bundle, flags.digest),
  );
  for (const { name, seconds, did } of nodes)
    say(`             ${name}: ${did.join(', ')}, ${seconds} s`);
  if (flags.init === 'sshd') {
    // What bootstrap lists as left to do by hand where nothing manages services.
    for (const name of names)
      must(
        name,
        "printf '#!/bin/sh\\n%s\\n' '/opt/minikeep/bin/minikeep start --background --home /var/lib/minikeep' >/etc/at-boot; chmod +x /etc/at-boot",
      );
    say('             by hand, as it says: the node is started at boot');
  }
  step('bootstrap again: nothing to do', () => {
    const did = mustBootstrap(flags.bundle, flags.digest).flatMap((one) => one.did);
    if (did.length > 0) throw new Error(`it did ${did.join(', ')}`);
  });
  say(`             ${states()}`);
  const file =
    flags.model === undefined
      ? '/opt/minikeep/current/models/keeper.gguf'
      : plugIn(path.join(folder, 'machines', first, 'opt'), flags.model);
  step(`model imported, ${(json(`model show ${file}`).size_bytes / 1e9).toFixed(2)} GB`, () =>
    must(first, `minikeep model import ${file} --name ${MODEL} --yes`),
  );
  step(`up on ${names.slice(0, 4).join(', ')}, the canary first`, () =>
    must(first, `minikeep up ${MODEL} --nodes ${names.slice(0, 4).join(',')} --threads 1`),
  );
  for (const { node, layers } of deployment().stages)
    say(`             ${node}: layers ${layers[0]}–${layers[1] - 1}`);
  const answer = step('question answered', () => ask(MODEL));
  say(`             ${QUESTION} ${answer}`);

  const before = engines();
  await step('coordinator killed; it runs again, engines were kept', async () => {
    // Its configuration's name: no other process has it.
    must(first, "kill -9 $(pgrep -f '[c]oordinator-process.json')");
    await until(isUp, UP_MS_MAX);
  });
  if (engines() !== before) throw new Error(`other engines run: ${before} became ${engines()}`);
  same(
    answer,
    step('question answered, the same', () => ask(MODEL)),
  );

  await step(`${third} rebooted (its plug pulled); the model is up again`, async () => {
    await machines.reboot(third);
    await until(() => rows().find(({ name }) => name === third).state === 'up', UP_MS_MAX);
    await until(isUp, UP_MS_MAX);
  });
  same(
    answer,
    step('question answered, the same', () => ask(MODEL)),
  );

  await step(`${first}, with the coordinator, rebooted; the model is up again`, async () => {
    await machines.reboot(first);
    await until(isUp, UP_MS_MAX);
  });
  same(
    answer,
    step('question answered, the same', () => ask(MODEL)),
  );

  step(`${last} removed`, () => must(first, `minikeep node remove ${last}`));
  say(`             ${states()}`);
  same(
    answer,
    step('question answered, the same', () => ask(MODEL)),
  );

  if (flags.upgrade) {
    const { upgrades } = await import('./namespaces/upgrades.mjs');
    await upgrades({
      root: ROOT,
      folder,
      bootstrap,
      mustBootstrap,
      must,
      step,
      say,
      rows,
      stack,
      last,
      isUp,
      until,
    });
    same(
      answer,
      step('question answered, the same', () => ask(MODEL)),
    );
  }
}

/** As a disk that is plugged in: the machine sees the file in /opt/usb, where nothing was copied to. Returns its path. */
function plugIn(opt, file) {
  mkdirSync(path.join(opt, 'usb'));
  const there = path.join(opt, 'usb', 'model.gguf');
  try {
    linkSync(file, there);
  } catch {
    // On another file system.
    copyFileSync(file, there);
  }
  return '/opt/usb/model.gguf';
}

function same(before, after) {
  if (before !== after) throw new Error(`another answer: ${before}\n${after}`);
}
