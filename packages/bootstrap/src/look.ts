/** What a machine says of itself before anything is done to it: one short script, its lines checked. */
import { MinikeepError } from '@minikeep/protocol';
import type { Platform } from '@minikeep/bundle';
import type { StackNode } from '@minikeep/planner';
import type { Ssh } from './ssh.ts';

const LOOK_MS_MAX = 30_000;

/**
 * KEY=VALUE lines. Everything bootstrap puts on a machine lies in the prefix, the home and the stage; `as_root` says
 * how commands get root's rights: no word for root itself, `sudo` without a password, or not at all.
 */
const SCRIPT = `
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin:/usr/local/bin
echo "system=$(uname -s)-$(uname -m)"
echo "uid=$(id -u)"
echo "user_home=$HOME"
if [ "$(id -u)" = 0 ]; then as_root=yes; elif sudo -n true 2>/dev/null; then as_root=sudo; else as_root=no; fi
echo "as_root=$as_root"
if [ "$(uname -s)" = Darwin ]; then manager=launchd; home=/var/db/minikeep
elif [ -d /run/systemd/system ]; then manager=systemd; home=/var/lib/minikeep
else manager=none; home=/var/lib/minikeep; fi
if [ $as_root = no ]; then prefix=$HOME/.local/opt/minikeep; home=$HOME/.minikeep; else prefix=/opt/minikeep; fi
echo "manager=$manager"
echo "prefix=$prefix"
echo "home=$home"
echo "current=$(readlink "$prefix/current" 2>/dev/null)"
for version in "$prefix"/versions/*/SHA256SUMS; do
  [ ! -f "$version" ] || { folder=\${version%/SHA256SUMS}; echo "version=\${folder##*/}"; }
done
for tool in tar gzip; do command -v $tool >/dev/null || echo "missing=$tool"; done
command -v sha256sum >/dev/null || command -v shasum >/dev/null || echo "missing=sha256sum"
settings=$home/node.json
if [ $as_root = sudo ]; then settings=$(sudo -n cat "$settings" 2>/dev/null); else settings=$(cat "$settings" 2>/dev/null); fi
echo "settings=$(printf %s "$settings" | tr -d '\\n')"
echo "end=end"
`;

export interface Looked {
  readonly platform: Platform;
  readonly asRoot: 'yes' | 'sudo' | 'no';
  readonly manager: 'systemd' | 'launchd' | 'none';
  readonly prefix: string;
  readonly home: string;
  readonly userHome: string;
  /** The folder below versions/ that is the current one; undefined: nothing is installed. */
  readonly current: string | undefined;
  readonly versions: readonly string[];
  /** The home's node.json. */
  readonly member: Member | undefined;
}

export interface Member {
  readonly cluster_id: string;
  readonly cluster_name: string;
  readonly node: string;
  readonly serves?: unknown;
}

/** Throws `bootstrap.*`, `ssh.*`. */
export async function look(ssh: Ssh): Promise<Looked> {
  const { stdout, code, stderr } = await ssh.run(SCRIPT, { timeoutMs: LOOK_MS_MAX });
  const values = new Map<string, string[]>();
  for (const line of stdout.split('\n')) {
    const [, key = '', value = ''] = /^([a-z_]+)=(.*)$/.exec(line) ?? [];
    if (key !== '') values.set(key, [...(values.get(key) ?? []), value]);
  }
  const one = (key: string): string => values.get(key)?.[0] ?? '';
  if (code !== 0 || one('end') !== 'end')
    throw odd(ssh, `it did not say what it is (exit ${code}): ${stderr.trim().slice(-300)}`);
  const missing = values.get('missing') ?? [];
  if (missing.length > 0)
    throw new MinikeepError('bootstrap.no_tool', `${ssh.node.name} lacks ${missing.join(', ')}`, {
      next: `Install ${missing.join(', ')} there, then run bootstrap again.`,
    });
  const paths = [one('prefix'), one('home'), one('user_home')];
  for (const path of paths)
    if (!/^\/[\w@%+=:,./ -]*$/.test(path))
      throw odd(ssh, `it names an odd folder: ${path.slice(0, 80)}`);
  const asRoot = one('as_root');
  const manager = one('manager');
  if (!isAsRoot(asRoot) || !isManager(manager)) throw odd(ssh, 'it says odd things about itself');
  return {
    platform: platformOf(ssh.node, one('system')),
    asRoot,
    manager,
    prefix: one('prefix'),
    home: one('home'),
    userHome: one('user_home'),
    current: one('current') === '' ? undefined : one('current').replace(/^versions\//, ''),
    versions: values.get('version') ?? [],
    member: memberOf(ssh, one('settings')),
  };
}

const isAsRoot = (text: string): text is Looked['asRoot'] => /^(yes|sudo|no)$/.test(text);
const isManager = (text: string): text is Looked['manager'] =>
  /^(systemd|launchd|none)$/.test(text);

const PLATFORMS: ReadonlyMap<string, Platform> = new Map([
  ['Linux-x86_64', 'linux-x64'],
  ['Darwin-arm64', 'darwin-arm64'],
]);

function platformOf(node: StackNode, system: string): Platform {
  const found = PLATFORMS.get(system);
  if (found === undefined)
    throw new MinikeepError(
      'bootstrap.platform',
      `${node.name} is ${system.slice(0, 60)}, which minikeep does not run on`,
      {
        next: 'Take it out of the stack file: Linux on x86-64 and Macs with Apple Silicon are supported.',
      },
    );
  const wanted = node.platform === 'macos' ? 'darwin-arm64' : 'linux-x64';
  if (found !== wanted)
    throw new MinikeepError(
      'bootstrap.other_machine',
      `the stack file says that ${node.name} is ${node.platform}, but ${node.ssh?.host} is ${system}`,
      { next: 'Correct `platform` or `ssh.host` of that node in the stack file.' },
    );
  return found;
}

function memberOf(ssh: Ssh, text: string): Member | undefined {
  if (text === '') return undefined;
  try {
    const value = JSON.parse(text) as Partial<Member>;
    if (
      typeof value.cluster_id === 'string' &&
      typeof value.cluster_name === 'string' &&
      typeof value.node === 'string'
    )
      return value as Member;
  } catch {
    // Said below.
  }
  throw odd(ssh, 'its node.json is damaged');
}

const odd = (ssh: Ssh, why: string): MinikeepError =>
  new MinikeepError('bootstrap.odd_machine', `${ssh.node.name}: ${why}`, {
    next: `Look at that machine: ${ssh.typed}`,
  });
