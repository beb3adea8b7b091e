/**
 * Clocks that are wrong, told the same way wherever it shows: whose, by how much, and the line that sets it. A difference
 * below a day hurts nothing (certificates begin a day before their making), but the one who looks at two logs.
 */
import { EXIT, MinikeepError } from './errors.ts';

/** A clock further off than this is worth a word. */
export const CLOCK_OFF_SECONDS = 60;

/** For a machine whose platform is not known here. */
export const SET_CLOCK =
  'sudo date -u -s "YYYY-MM-DD HH:MM:SS" (on a Mac: sudo date -u mmddHHMMYYYY)';

/** The line that sets a machine's clock to that time. `platform` as Node names it, with or without the architecture. */
export function setClock(platform: string, toMs: number): string {
  const [day = '', time = ''] = new Date(toMs).toISOString().split('T');
  const [year, month, date] = day.split('-');
  const [hour, minute, second] = time.slice(0, 8).split(':');
  return platform.startsWith('darwin')
    ? `sudo date -u ${month}${date}${hour}${minute}${year}.${second}`
    : `sudo date -u -s '${day} ${time.slice(0, 8)}'`;
}

export interface ClockOff {
  /** "node mini-2's clock". */
  readonly whose: string;
  readonly platform: string;
  readonly aheadSeconds: number;
  /** What the coordinator's clock says. */
  readonly coordinatorMs: number;
}

/** The error `clock.skew`, or undefined when the clocks agree. */
export function clockSkew(off: ClockOff): MinikeepError | undefined {
  const { whose, platform, aheadSeconds, coordinatorMs } = off;
  const seconds = Math.abs(aheadSeconds);
  if (!(seconds > CLOCK_OFF_SECONDS)) return undefined;
  return new MinikeepError(
    'clock.skew',
    `${whose} is ${duration(seconds)} ${aheadSeconds > 0 ? 'ahead of' : 'behind'} the coordinator's`,
    {
      next: `If the coordinator's is right, on that machine: ${setClock(platform, coordinatorMs)}; else set the coordinator's.`,
      exitCode: EXIT.denied,
    },
  );
}

/** "70 s", "1 h 10 min", "3 days 2 h". */
function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 120) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days ${hours % 24} h`;
}

/** "2026-11-24 02:17 UTC" */
export const utc = (ms: number): string =>
  `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
