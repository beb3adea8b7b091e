/**
 * Two processes of minikeep that can't work together, told the same way wherever it shows: which machine has which
 * version, which one is the older, and what brings it up to date.
 */
import { EXIT, MinikeepError } from './errors.ts';

export interface Speaker {
  /** As it stands in a sentence: "node mini-2", "the coordinator". */
  readonly who: string;
  /** As it says itself; empty where it says nothing. */
  readonly version: string;
  readonly protocol: number;
}

/** Both versions are those of the other side's choice: what is no version is not printed. */
const VERSION = /^[0-9A-Za-z.+-]{1,40}$/;

/** The error `version.mismatch`: of two whose protocols differ, or whose versions do where both should be one. */
export function versionMismatch(one: Speaker, other: Speaker): MinikeepError {
  const [older, newer] = isOlder(one, other) ? [one, other] : [other, one];
  return new MinikeepError(
    'version.mismatch',
    `${one.who} runs minikeep ${shown(one)}, ${other.who} runs ${shown(other)}: they don't work together`,
    {
      next: `Update the older one, ${older.who}: minikeep bootstrap STACK.yaml --bundle FILE --digest SHA256 with the bundle of ${versionOf(newer)} updates all machines; or on that machine: sh install.sh FILE --digest SHA256, then start it again.`,
      exitCode: EXIT.failed,
      details: { older: older.who, older_version: versionOf(older), newer: newer.who },
    },
  );
}

function isOlder(one: Speaker, other: Speaker): boolean {
  if (one.protocol !== other.protocol) return one.protocol < other.protocol;
  return versionOf(one).localeCompare(versionOf(other), 'en', { numeric: true }) < 0;
}

const versionOf = ({ version }: Speaker): string =>
  VERSION.test(version) ? version : 'an unknown version';

const shown = (speaker: Speaker): string => `${versionOf(speaker)} (protocol ${speaker.protocol})`;
