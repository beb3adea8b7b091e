// The same sandbox in other situations: ordinary user, a folder of root's only, a container's capabilities and filter.
import { spawnSync } from 'node:child_process';
import { needCommand, needRoot, onlyOn } from '@minikeep/testkit';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type Around,
  container,
  firstLine,
  install,
  type Installed,
  startDriver,
} from './hostile/installed.ts';

const isRoot = process.getuid?.() === 0;
/** What a container engine leaves to its root by default. */
const CONTAINER_CAPABILITIES =
  '+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap';
let installed: Installed;

beforeAll(async () => {
  if (process.platform !== 'linux') return;
  installed = await install();
});
afterAll(() => installed?.cleanUp());
beforeEach((ctx) => {
  onlyOn(ctx, 'linux');
  installed.setModes(0o755, 0o755);
});

async function works(around: Around = {}): Promise<Record<string, unknown>> {
  const driver = startDriver(installed, 'short', around);
  const said = await firstLine(driver);
  expect(said['error']).toBeUndefined();
  expect(said['support']).toMatchObject({ ok: true, missing: [] });
  expect(said['seen']).toEqual([
    'read openat /etc/shadow',
    'network socket inet stream',
    `monitor kill process ${Number(said['agent'])} signal 9`,
  ]);
  expect(said['uid']).not.toBe(0);
  return said;
}

describe('whoever starts it', () => {
  it('this user', async () => {
    const { uid } = await works();
    if (isRoot) expect(uid).toBeGreaterThanOrEqual(61_184);
    else expect(uid).toBe(process.getuid?.());
  });

  it('an ordinary user', async (ctx) => {
    needRoot(ctx);
    expect(await works({ uid: 12_345 })).toMatchObject({ uid: 12_345 });
  });

  it('an ordinary user who may open fewer files than an engine', async (ctx) => {
    needRoot(ctx);
    const by = ['/bin/sh', '-c', 'ulimit -n 120 && exec "$@"', 'sh'];
    expect(await works({ uid: 12_345, by })).toMatchObject({ uid: 12_345 });
  });

  it('root, from a folder that only root can read', async (ctx) => {
    needRoot(ctx);
    installed.setModes(0o700, 0o755);
    await works();
  });

  it('root, with a Node that only root may execute', async (ctx) => {
    needRoot(ctx);
    installed.setModes(0o700, 0o700);
    await works();
  });
});

describe('inside a container', () => {
  it('root without CAP_SYS_PTRACE', async (ctx) => {
    needRoot(ctx);
    const setpriv = needCommand(ctx, 'setpriv', 'util-linux');
    installed.setModes(0o700, 0o755);
    await works({ by: [setpriv, '--bounding-set=-sys_ptrace'] });
  });

  it("root with a container's usual capabilities", async (ctx) => {
    needRoot(ctx);
    const setpriv = needCommand(ctx, 'setpriv', 'util-linux');
    installed.setModes(0o700, 0o755);
    await works({ by: [setpriv, `--bounding-set=-all,${CONTAINER_CAPABILITIES}`] });
  });

  it('with a filter that answers pidfd_getfd with EPERM, as root and as a user', async (ctx) => {
    await works({ options: ['--deny-pidfd-getfd'] });
    needRoot(ctx);
    await works({ options: ['--deny-pidfd-getfd'], uid: 12_345 });
  });

  it('one that nobody privileged started: namespaces of its own, nothing to gain', async (ctx) => {
    needRoot(ctx);
    needCommand(ctx, 'setpriv', 'util-linux');
    needCommand(ctx, 'unshare', 'util-linux');
    const around = container(12_345, ['--pid', '--fork', '--mount-proc', '--kill-child']);
    const [command, ...args] = [...(around.by ?? []), 'true'];
    if (spawnSync(command ?? '', args).status !== 0) ctx.skip('not here: user namespaces');
    expect(await works(around)).toMatchObject({ uid: 1000 });
  });

  it('a namespace that maps no unprivileged user: refused, with the choices', async (ctx) => {
    const unshare = needCommand(ctx, 'unshare', 'util-linux');
    const said = await firstLine(
      startDriver(installed, 'short', { by: [unshare, '--user', '--map-root-user'] }),
    );
    if (/unshare|Operation not permitted/.test(String(said['error'])))
      ctx.skip('not here: user namespaces');
    expect(said['error']).toMatchObject({
      code: 'sandbox.no_unprivileged_user',
      next: expect.stringContaining('ordinary user') as string,
    });
  });

  it('under another seccomp listener: refused, with the reason', async () => {
    const said = await firstLine(startDriver(installed, 'short', { options: ['--own-listener'] }));
    expect(said['error']).toMatchObject({ code: 'sandbox.no_seccomp' });
    expect(JSON.stringify(said['error'])).toContain('listener');
  });
});
