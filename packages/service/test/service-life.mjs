// Inside namespaces of its own: a machine with systemd on which `minikeep service` is used as a person would.
// usage: service-life.mjs FOLDER REPOSITORY. Prints one JSON document.
import { Machines, systemdPossible, until } from '../../../scripts/namespaces/namespaces.mjs';

const [, , folder, repository] = process.argv;
const program = '/srv/minikeep/minikeep';
const NO_BOOT = 'systemd does not start as process 1 of a namespace';
const steps = [];
const say = (document) => process.stdout.write(`${JSON.stringify(document)}\n`);

async function life(machines) {
  try {
    await machines.boot('mini-1', 1);
  } catch (cause) {
    throw new Error(NO_BOOT, { cause });
  }
  const run = (command) => machines.ssh('mini-1', command);
  const must = (command) => {
    const answer = run(command);
    if (answer.code !== 0)
      throw new Error(`${command}: ${answer.code} ${answer.stdout}${answer.stderr}`);
    return answer.stdout;
  };
  const status = () => JSON.parse(run(`${program} service status --json`).stdout || '{}');
  const note = (what, value) => steps.push(`${what}: ${value}`);
  note('before', `${run(`${program} service status`).code}`);
  must(`${program} init --name lab`);
  must(`find /etc -xdev | sort > /root/before; stat -c %U /var/lib/minikeep`);
  must(`${program} service install`);
  const first = status();
  note(
    'installed',
    `${first.manager} ${first.user} running ${first.running} enabled ${first.enabled}`,
  );
  note(
    'users',
    must(`ps -o user= -p ${first.pid}; stat -c %U /var/lib/minikeep`).trim().split('\n').join(' '),
  );
  note('capabilities', must(`grep -c '^Cap...:.0*$' /proc/${first.pid}/status`).trim());
  note('filter', must(`grep '^Seccomp:' /proc/${first.pid}/status`).trim().replace(/\s+/, ' '));
  note('root asks as the owner', JSON.parse(must(`${program} nodes --json`)).nodes[0].name);
  must(`kill -9 ${first.pid}`);
  await until(() => status().running && status().pid !== first.pid, 30_000);
  note('after a kill', `running, restarts ${status().restarts}`);
  await machines.reboot('mini-1');
  await until(() => run(`${program} nodes --json`).code === 0, 60_000);
  note('after a reboot', `running ${status().running}`);
  must(`${program} service remove`);
  note(
    'removed',
    `${status().installed} ${run('id minikeep').code} ${must('stat -c %U /var/lib/minikeep').trim()}`,
  );
  must('find /etc -xdev | sort > /root/after');
  // useradd keeps copies of the files before, and systemd has a folder for what is wanted at boot.
  note(
    'left in /etc',
    run('diff /root/before /root/after')
      .stdout.split('\n')
      .filter((l) => /^[<>]/.test(l) && !/(passwd|group|shadow|sub.id)-$/.test(l))
      .join(' '),
  );
}

if (!systemdPossible())
  say({ skipped: 'systemd as process 1 of a namespace (no control groups to write)' });
else {
  const machines = new Machines({ folder, init: 'systemd', shown: repository });
  try {
    await life(machines);
    say({ steps });
  } catch (error) {
    say(
      error.message === NO_BOOT
        ? { skipped: `${NO_BOOT}: ${error.cause?.message.slice(0, 200)}` }
        : { steps, error: String(error.stack) },
    );
  } finally {
    await machines.close();
  }
}
