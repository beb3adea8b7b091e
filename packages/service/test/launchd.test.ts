/** launchd's jobs as a library reads them, and a whole installation on a Mac of recorded answers. */
import { parse } from 'plist';
import { describe, expect, it } from 'vitest';
import {
  describeChange,
  helperPlist,
  installService,
  nodePlist,
  plistFile,
  plistText,
  planService,
  RECORD_FILE,
  removeService,
  serviceStatus,
  type ServiceOptions,
} from '../src/index.ts';
import { RecordedMac } from './recorded-mac.ts';

const OPTIONS: ServiceOptions = {
  home: '/var/db/minikeep',
  program: '/opt/minikeep/bin/minikeep',
  node: '/opt/minikeep/versions/1/node/bin/node',
  version: '0.1.0',
  wiredLimitMebibytes: 57_344,
  readLog: true,
  keepPower: false,
};
const HOW = {
  onChange: () => {},
  lastly: () => Promise.resolve(),
  signal: new AbortController().signal,
};

describe("launchd's jobs", () => {
  it('are property lists: the node runs as its own user, at boot, and again when it ends', () => {
    const home = '/Volumes/a "b" & <c>';
    expect(parse(nodePlist({ ...OPTIONS, home }, '_minikeep', '_minikeep'))).toMatchObject({
      Label: 'minikeep.node',
      ProgramArguments: ['/opt/minikeep/bin/minikeep', 'start', '--home', home, '--verbose'],
      UserName: '_minikeep',
      GroupName: '_minikeep',
      RunAtLoad: true,
      KeepAlive: true,
      ProcessType: 'Interactive',
      Umask: 63,
      ExitTimeOut: 30,
    });
  });

  it("root's part runs only macOS's own programs, with numbers", () => {
    const job = parse(helperPlist(['sleep', '0', 'autorestart', '1'], 57_344)) as Record<
      string,
      unknown
    >;
    expect(job['ProgramArguments']).toEqual([
      '/bin/sh',
      '-c',
      '/usr/bin/pmset -a sleep 0 autorestart 1; /usr/sbin/sysctl iogpu.wired_limit_mb=57344',
    ]);
    expect(job).toMatchObject({ Label: 'minikeep.machine', RunAtLoad: true, LaunchOnlyOnce: true });
    expect(job).not.toHaveProperty('UserName');
    expect(job).not.toHaveProperty('KeepAlive');
  });

  it('any text comes back as it was', () => {
    const value = { a: ['<&>"\'', '', '  x  '], b: { c: -3, d: false } };
    expect(parse(plistText(value))).toEqual(value);
  });
});

describe('service install on a Mac', () => {
  it('a dry run shows every file and command that installing then uses, and changes nothing', async () => {
    const mac = new RecordedMac();
    const before = mac.state();
    const planned = await planService(mac, OPTIONS);
    expect(mac.state()).toEqual(before);
    const shown = planned.changes.flatMap(describeChange).join('\n');
    mac.ran.length = 0;
    await installService(mac, OPTIONS, HOW);
    const reading = / (-g|-list|-n|-u|-gn|-un|print|status|--getglobalstate)( |$)/;
    for (const line of mac.ran.filter((one) => !reading.test(one)))
      expect(shown.replaceAll("'", '')).toContain(line);
    for (const [file, { content }] of mac.files)
      if (file !== RECORD_FILE) expect(shown).toContain(content.split('\n')[5]);
    expect(planned.byHand.join()).toContain('FileVault');
  });

  it('installs, is installed again without a second trace, and remove undoes all of it', async () => {
    const mac = new RecordedMac();
    const before = mac.state();
    await installService(mac, OPTIONS, HOW);
    expect([...mac.jobs]).toEqual(['minikeep.machine', 'minikeep.node']);
    // 399 and 398 are taken, one by a user, one by a group.
    expect(mac.users.get('_minikeep')).toBe('397');
    expect(mac.folders.get('/var/db/minikeep')?.uid).toBe(397);
    expect(Number.parseInt(mac.power.get('sleep') ?? '', 10)).toBe(0);
    expect(mac.power.get('autorestart')).toBe('1');
    expect(mac.power.get('displaysleep')).toBe('10');
    expect(mac.wired).toBe('57344');
    expect([...mac.firewall]).toEqual([OPTIONS.node]);
    expect(await serviceStatus(mac)).toMatchObject({
      manager: 'launchd',
      installed: true,
      running: true,
      pid: 24_784,
      restarts: 1,
      user: '_minikeep',
    });
    await installService(mac, { ...OPTIONS, wiredLimitMebibytes: 50_000 }, HOW);
    expect(mac.wired).toBe('50000');
    expect(mac.files.get(plistFile('minikeep.machine'))?.content).toContain('50000');
    expect(await removeService(mac, () => {})).toEqual([]);
    expect(mac.state()).toEqual(before);
  });

  it('whichever command fails: it says which, and the Mac is as it was', async () => {
    const probe = new RecordedMac();
    await installService(probe, OPTIONS, HOW);
    const { changes } = await planService(new RecordedMac(), OPTIONS);
    const commands = changes.flatMap((c) =>
      c.kind === 'run' && c.argv !== undefined ? [c.argv.join(' ')] : [],
    );
    expect(commands.length).toBeGreaterThan(20);
    for (const command of commands) {
      const mac = new RecordedMac();
      const before = mac.state();
      mac.fault = (line) =>
        line === command ? { code: 1, stdout: '', stderr: 'refused' } : undefined;
      await expect(installService(mac, OPTIONS, HOW), command).rejects.toMatchObject({
        code: 'service.change_failed',
        message: expect.stringContaining('refused'),
      });
      expect(mac.state(), command).toEqual(before);
    }
  });

  it('a setting that does not stick, or a node that does not answer, undoes all', async () => {
    const mac = new RecordedMac();
    const before = mac.state();
    mac.fault = (line) =>
      line.startsWith('/usr/bin/pmset -a') ? { code: 0, stdout: '', stderr: '' } : undefined;
    await expect(installService(mac, OPTIONS, HOW)).rejects.toMatchObject({
      code: 'service.check_failed',
      message: expect.stringContaining('pmset says sleep 0'),
    });
    expect(mac.state()).toEqual(before);
    mac.fault = () => undefined;
    await expect(
      installService(mac, OPTIONS, { ...HOW, lastly: () => Promise.reject(new Error('silent')) }),
    ).rejects.toThrow('silent');
    expect(mac.state()).toEqual(before);
  });

  it("what can't be undone is named and stays in the record; a second remove goes on", async () => {
    const mac = new RecordedMac();
    const before = mac.state();
    await installService(mac, OPTIONS, HOW);
    mac.fault = (line) =>
      line === '/usr/bin/dscl . -delete /Users/_minikeep'
        ? { code: 1, stdout: '', stderr: 'busy' }
        : undefined;
    const left = await removeService(mac, () => {});
    expect(left.map(({ why }) => why)).toEqual(['busy']);
    expect(mac.users.has('_minikeep')).toBe(true);
    mac.fault = () => undefined;
    expect(await removeService(mac, () => {})).toEqual([]);
    expect(mac.state()).toEqual(before);
    await expect(removeService(mac, () => {})).rejects.toMatchObject({
      code: 'service.not_installed',
    });
  });

  it.each([
    ['a folder that only its owner may enter', { home: '/Volumes/ada/x' }, 'service.home_hidden'],
    ['no home', { home: '/var/db/none' }, 'service.no_home'],
    ['root', { user: 'root' }, 'service.user_root'],
    ['a user who is not there', { user: 'eve' }, 'service.user_unknown'],
    ['no user name', { user: '-x y' }, 'service.user_invalid'],
    ['a line break in a path', { home: '/var/db/a\nUser=root' }, 'service.path_invalid'],
  ])('refuses %s, and changes nothing', async (_, change, code) => {
    const mac = new RecordedMac();
    mac.folders.set('/Volumes/ada', { uid: 501, mode: 0o700 });
    mac.folders.set('/Volumes/ada/x', { uid: 0, mode: 0o700 });
    const before = mac.state();
    await expect(installService(mac, { ...OPTIONS, ...change }, HOW)).rejects.toMatchObject({
      code,
    });
    expect(mac.state()).toEqual(before);
  });

  it('refuses a record that others than root may have written', async () => {
    const mac = new RecordedMac();
    await installService(mac, OPTIONS, HOW);
    const record = mac.files.get(RECORD_FILE);
    mac.files.set(RECORD_FILE, { content: record?.content ?? '', mode: 0o666 });
    await expect(removeService(mac, () => {})).rejects.toMatchObject({
      code: 'service.record_damaged',
    });
  });

  it('without root it says so', async () => {
    const mac = new RecordedMac();
    mac.root = false;
    await expect(installService(mac, OPTIONS, HOW)).rejects.toMatchObject({
      code: 'service.not_root',
      exitCode: 5,
    });
  });
});
