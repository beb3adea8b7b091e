/**
 * What macOS's own libraries ask for in every process before our code runs; refused, of no use to anyone, and not an
 * attempt. Only while the engine starts: once it is sealed, the same is reported. From published profiles of other
 * programs; never seen on a Mac by us, so a start that asks for more shows up as attempts, not as silence.
 */
import type { LogFinding } from './log-reader.ts';

type Refusal = Extract<LogFinding, { type: 'refusal' }>;

const KNOWN: readonly (readonly [operation: RegExp, target: RegExp])[] = [
  [/^file-ioctl$/, /^\/dev\/dtracehelper$/],
  [/^file-(read|write)/, /^\/dev\/(dtracehelper|autofs_nowait|tty)$/],
  [/^file-read/, /^\/private\/(etc\/localtime|var\/db\/timezone\/.{1,80})$/],
  [/^file-read/, /\/\.(CFUserTextEncoding|GlobalPreferences\S{0,60}\.plist)$/],
  [/^file-read-metadata$/, /^\/(var|etc|tmp)$/],
  [
    /^mach-lookup$/,
    /^com\.apple\.(system\.(logger|notification_center|opendirectoryd\.(libinfo|membership))|logd|diagnosticd|cfprefsd\.(agent|daemon)|bsd\.dirhelper|trustd|trustd\.agent)$/,
  ],
  [/^ipc-posix-shm-read/, /^apple\.(shm\.notification_center|cfprefs\.\S{1,60})$/],
  [/^user-preference-read$/, /^kcfpreferencesanyapplication$/i],
  [/^sysctl-read$/, /^(kern|hw|vm|security|machdep)\.[\w.]{1,60}$/],
];

export const isKnownAtStart = ({ operation, target }: Refusal): boolean =>
  KNOWN.some(([o, t]) => o.test(operation) && t.test(target));
