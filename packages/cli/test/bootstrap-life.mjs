// Inside namespaces of its own: two machines with sshd, set up by `minikeep bootstrap` from a bundle, with what goes wrong
// on the way. usage: bootstrap-life.mjs FOLDER REPOSITORY BUNDLE DIGEST. Prints one JSON document: step → what was so.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Machines } from '../../../scripts/namespaces/namespaces.mjs';

const [, , folder, repository, bundle, digest] = process.argv;
const steps = {};
const machines = new Machines({ folder, init: 'sshd', hidden: repository });

function bootstrap(stack, ...more) {
  const file = path.join(folder, 'stack.yaml');
  writeFileSync(file, stack);
  const said = spawnSync(
    path.join(repository, 'minikeep'),
    [
      'bootstrap',
      file,
      '--bundle',
      bundle,
      '--digest',
      digest,
      '--ssh-config',
      machines.sshConfig(),
      '--json',
      ...more,
    ],
    { encoding: 'utf8', timeout: 300_000 },
  );
  const documents = said.stdout
    .split('\n')
    .flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
  const done = documents.at(-1);
  return {
    code: said.status,
    error: said.stderr.trim(),
    steps: documents
      .filter(({ type }) => type === 'step')
      .map(({ node, step }) => `${node} ${step}`),
    nodes: (done?.nodes ?? []).map(({ name, state, did, error }) => ({
      name,
      state,
      did,
      error: error?.code ?? null,
    })),
    byHand: (done?.nodes ?? []).flatMap(({ by_hand }) => by_hand),
  };
}

const node = (name, number, role = 'node') =>
  `  - { name: ${name}, role: ${role}, platform: linux, ssh: { host: ${machines.address(number)}, user: root }, hardware: { memory: 8 GiB } }\n`;
const stack = `cluster: lab\nnodes:\n${node('mini-1', 1, 'coordinator')}${node('mini-2', 2)}`;

try {
  await machines.boot('mini-1', 1);
  const known = readFileSync(machines.knownHosts, 'utf8');
  // The first machine shows another key than the one that is known, the second is not plugged in yet.
  writeFileSync(
    machines.knownHosts,
    readFileSync(`${machines.key}.pub`, 'utf8').replace(/^/, `${machines.address(1)} `),
  );
  steps.first = bootstrap(stack);
  writeFileSync(machines.knownHosts, known);
  await machines.boot('mini-2', 2);
  // An earlier copy was cut in the middle: what lies there is gone on with.
  const half = 20_000_000;
  const stage = path.join(folder, 'mini-2/root/.minikeep-bootstrap');
  mkdirSync(stage, { mode: 0o700 });
  writeFileSync(path.join(stage, `${digest}.tar.gz`), readFileSync(bundle).subarray(0, half));
  steps.second = bootstrap(stack);
  steps.again = bootstrap(stack);
  steps.otherName = bootstrap(stack.replace('cluster: lab', 'cluster: den')).nodes;
  steps.nodes = JSON.parse(
    machines.ssh('mini-1', '/usr/local/bin/minikeep nodes --json').stdout,
  ).nodes.map(({ name, state }) => `${name} ${state}`);
  steps.leftBehind = machines.ssh('mini-2', 'ls -A /root /tmp').stdout.trim().split('\n');
} catch (error) {
  steps.error = String(error.stack);
} finally {
  await machines.close();
}
process.stdout.write(`${JSON.stringify(steps)}\n`);
