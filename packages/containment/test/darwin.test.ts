/**
 * The macOS profile and log reader. The refusals are the recorded lines of the design notes on containment, in the
 * event form that those notes give. Nothing here ran on a Mac.
 */
import { describe, expect, it } from 'vitest';
import {
  LOG_LINE_BYTES_MAX,
  type LogFinding,
  LogLines,
  readLogLine,
} from '../src/darwin/log-reader.ts';
import { seatbeltProfile } from '../src/darwin/profile.ts';

const TAG = 'mk-0123456789abcdef';
const event = (message: string, changes: Record<string, unknown> = {}): string =>
  JSON.stringify({
    processID: 0,
    processImagePath: '/kernel',
    senderImagePath: '/System/Library/Extensions/Sandbox.kext/Contents/MacOS/Sandbox',
    messageType: 'Error',
    eventMessage: `${message}\n${TAG}`,
    ...changes,
  });
const CONNECT = 'Sandbox: nc(7936) deny(1) network-outbound remote:*:443';

describe('log reader', () => {
  it.each([
    [CONNECT, 'network', 7936, 'network-outbound', 'remote:*:443'],
    [
      'Sandbox: curl(75886) deny(1) network-outbound /private/var/run/mDNSResponder',
      'dns',
      75886,
      'network-outbound',
      '/private/var/run/mDNSResponder',
    ],
    [
      'Sandbox: llama-server(4242) deny(1) network-bind local:*:8080',
      'network',
      4242,
      'network-bind',
      'local:*:8080',
    ],
    [
      'Sandbox: curl(3575) deny(1) system-socket domain:32 type:2 protocol:2',
      'network',
      3575,
      'system-socket',
      'domain:32 type:2 protocol:2',
    ],
    [
      'Sandbox: bash(96731) deny(1) file-write-create /private/tmp/write.txt',
      'write',
      96731,
      'file-write-create',
      '/private/tmp/write.txt',
    ],
    [
      'Sandbox: sandbox-exec(41398) deny(1) process-exec* /usr/bin/touch',
      'exec',
      41398,
      'process-exec*',
      '/usr/bin/touch',
    ],
  ])('reads %s', (message, kind, pid, operation, target) => {
    const finding = { type: 'refusal', tag: TAG, pid, kind, operation, target, count: 1 };
    expect(readLogLine(event(message), TAG)).toEqual(finding);
  });

  it('counts what the log folded', () => {
    const line = event(`5 duplicate reports for ${CONNECT}`);
    expect(readLogLine(line, TAG)).toMatchObject({ type: 'refusal', count: 5, pid: 7936 });
  });

  it.each([
    ['by another process', { processID: 501 }],
    ['by another program', { processImagePath: '/usr/bin/logger' }],
    ['by another sender', { senderImagePath: '/usr/lib/libsystem_trace.dylib' }],
    ['for another engine', { eventMessage: `${CONNECT}\nmk-ffffffffffffffff` }],
    ['without a tag', { eventMessage: CONNECT }],
    ['with the tag on the first line', { eventMessage: `${CONNECT} ${TAG}` }],
    ['with fields missing', { processID: undefined }],
    ['with fields of another type', { processID: '0' }],
  ])('does not believe a line written %s', (_, changes) => {
    expect(readLogLine(event(CONNECT, changes), TAG)).toBeUndefined();
  });

  it('says that it is blind when messages were dropped, or have a new form', () => {
    const dropped =
      '=== Messages dropped during live streaming (use `log show` to see what they were)';
    expect(readLogLine(dropped, TAG)).toMatchObject({ type: 'blind' });
    expect(readLogLine(event('Sandbox v2 says no'), TAG)).toMatchObject({ type: 'blind' });
  });

  it('escapes what an attacker wrote', () => {
    const line = event('Sandbox: a(1) deny(1) file-write-create /x\u001b]0;owned\u0007"\\é');
    expect(readLogLine(line, TAG)).toMatchObject({
      target: '/x\\u001b]0;owned\\u0007\\u0022\\u005c\\u00e9',
    });
  });

  it('takes lines in any pieces, ignores cut ones, and skips one that never ends', () => {
    const found: LogFinding[] = [];
    const lines = new LogLines(TAG, (finding) => found.push(finding));
    const stream = Buffer.from(
      `Filtering the log data using "x"\n${event(CONNECT)}\n{"eventMessage":"cut\n${event(CONNECT)}\n`,
    );
    for (let at = 0; at < stream.length; at += 7) lines.push(stream.subarray(at, at + 7));
    expect(found.map((f) => f.type)).toEqual(['refusal', 'refusal']);
    lines.push(Buffer.alloc(LOG_LINE_BYTES_MAX + 1, 'x'));
    lines.push(Buffer.alloc(LOG_LINE_BYTES_MAX + 1, 'x'));
    lines.push(Buffer.from(`${event(CONNECT)}\n${event(CONNECT)}\n`));
    expect(found.map((f) => f.type)).toEqual(['refusal', 'refusal', 'blind', 'refusal']);
  });

  it('keeps up with a burst', () => {
    let count = 0;
    const lines = new LogLines(TAG, () => (count += 1));
    const burst = Buffer.from(`${event(CONNECT)}\n`.repeat(5_000));
    lines.push(burst);
    expect(count).toBe(5_000);
  });
});

describe('Seatbelt profile', () => {
  const options = {
    tag: TAG,
    program: '/opt/minikeep/node',
    files: ['/opt/minikeep/engine.mjs', '/private/var/slices/a "b".gguf'],
    gpu: true,
  };
  const profile = seatbeltProfile(options);
  const at = (text: string): number => profile.indexOf(text);

  it('denies everything first, with the tag, and again after what Apple imports', () => {
    expect(profile.startsWith(`(version 1)\n(deny default (with message "${TAG}"))\n`)).toBe(true);
    for (const what of ['network*', 'file-write*', 'process-fork', 'mach-lookup', 'file-read*'])
      expect(at(`(deny ${what} (with message "${TAG}"))`), what).toBeGreaterThan(at('system.sb'));
    for (const line of profile.split('\n').filter((l) => l.startsWith('(deny')))
      expect(line).toContain(`(with message "${TAG}")`);
  });

  it('allows reading of exact files, and never all of /System', () => {
    expect(profile).toContain('(literal "/private/var/slices/a \\"b\\".gguf")');
    expect(profile).not.toContain('(subpath "/System")');
    expect(profile).not.toContain('(subpath "/opt');
  });

  it('lets nothing run but the engine itself, and never allows after the last denies', () => {
    expect(profile).toContain('(allow process-exec* (literal "/opt/minikeep/node"))');
    expect(profile.lastIndexOf('(allow ')).toBeLessThan(at('(deny network*'));
  });

  it.each([
    ['/var/x', 'sandbox.path_not_canonical'],
    ['/tmp/minikeep-is-not-there', 'sandbox.path_not_canonical'],
    ['/opt/../etc/x', 'sandbox.path_not_canonical'],
    ['relative', 'sandbox.path_not_canonical'],
    ['/opt/a\n(allow default)', 'sandbox.bad_path'],
  ])('refuses the path %j', (file, code) => {
    expect(() => seatbeltProfile({ ...options, files: [file] })).toThrow(
      expect.objectContaining({ code }),
    );
  });

  it('refuses a tag that could be guessed or could end the string', () => {
    for (const tag of ['', 'short', `${TAG}"`])
      expect(() => seatbeltProfile({ ...options, tag })).toThrow(
        expect.objectContaining({ code: 'sandbox.bad_tag' }),
      );
  });
});
