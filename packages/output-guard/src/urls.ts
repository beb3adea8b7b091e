/**
 * Addresses in the text: `scheme://`, schemes that carry or run something, hosts that programs make links of by
 * themselves. Shown as people who write about attacks do: `https[://]evil[.]example/x`.
 */
import { lastLabels } from './destination.ts';
import type { Around, Verdict } from './types.ts';

const SCHEME_BEFORE = /[a-z][a-z0-9+.-]{0,31}$/i;
const SLASH = String.raw`(?:\\?\/|\\(?!\/)|&(?:#0{0,4}47|#x0{0,4}2f|sol);)`;
const SLASHES = new RegExp(`^:${SLASH}{2}`, 'i');
/** What may still become one. */
const SLASHES_BEGUN = /^:(?:[\\/]|&[#\w]{0,8};?)*$/i;
const BEGUN_LENGTH_MAX = 24;

/** As a browser reads them, and only with these names: LaTeX breaks lines by a backslash behind a colon. */
const DISGUISED = /&|^:\\\\/;

/** Fetched, run or opened without slashes. */
const WITHOUT_SLASHES: ReadonlySet<string> = new Set(['http', 'https', 'ftp', 'ws', 'wss']);
const RUNS: ReadonlySet<string> = new Set(['javascript', 'vbscript', 'livescript']);
const WRITES: ReadonlySet<string> = new Set(['mailto', 'xmpp', 'sms']);
const DATA = /^:(?:[\w.+-]{1,40}\/[\w.+-]|;|,\S)/;
const DATA_BEGUN = /^:[\w.+-]{0,40}\/?$|^:,$/;
const WRITE_LENGTH_MAX = 320;

export interface UrlPlace {
  /** Inside a fence of program code. */
  readonly code: boolean;
  /** Whether one more plain address may stay as it is there. */
  readonly allowance: boolean;
}

/** At a `:`. */
export function scheme(around: Around, { code, allowance }: UrlPlace): Verdict {
  const { before, ahead, complete } = around;
  const name = SCHEME_BEFORE.exec(before)?.[0].toLowerCase();
  if (name === undefined) return undefined;
  const waits = (more: boolean): Verdict => (more && !complete ? 'more' : undefined);
  const next = ahead[1];
  if (next === undefined) return waits(true);
  const slashes = SLASHES.exec(ahead)?.[0];
  if (slashes !== undefined && (WITHOUT_SLASHES.has(name) || !DISGUISED.test(slashes))) {
    if (code && slashes === '://' && allowance) {
      const plain = plainAddress(around);
      if (plain !== undefined) return plain;
    }
    return {
      length: slashes === '://' ? 3 : 1,
      shown: slashes === '://' ? '[://]' : '[:]',
      finding: 'url',
      authority: true,
      covers: true,
    };
  }
  if (SLASHES_BEGUN.test(ahead) && ahead.length <= BEGUN_LENGTH_MAX && !complete) return 'more';
  const broken: Verdict = {
    length: 1,
    shown: '[:]',
    finding: 'scheme',
    covers: true,
  };
  if (WITHOUT_SLASHES.has(name)) return /[\\/&]/.test(next) ? broken : undefined;
  if (RUNS.has(name)) return /\s/.test(next) ? undefined : broken;
  if (name === 'data') return DATA.test(ahead) ? broken : waits(DATA_BEGUN.test(ahead));
  if (WRITES.has(name)) {
    const address = /^:[^\s<>")\]]*/.exec(ahead)?.[0] ?? '';
    if (/[?;/&]/.test(address) || address.length > WRITE_LENGTH_MAX) return broken;
    return waits(address.length === ahead.length);
  }
  // `<scheme:…>` is a link whatever the scheme; `<std::…>` and elements of XML in code are none.
  const angle = before.at(-1 - name.length) === '<' && name.length > 1;
  return angle && !code && !/[ \t\n:]/.test(next) ? broken : undefined;
}

/** At a backslash: `https\\://`, which some renderers read as an address. */
export function escapedColon({ before, ahead, complete }: Around): Verdict {
  const name = SCHEME_BEFORE.exec(before)?.[0].toLowerCase() ?? '';
  if (!WITHOUT_SLASHES.has(name)) return undefined;
  if (ahead.length < 3) return complete ? undefined : 'more';
  if (!/[\\/&]/.test(ahead[2] ?? '')) return undefined;
  return { length: 2, shown: '[:]', finding: 'url', authority: true, covers: true };
}

const ENTITY = /^&(?:#(\d{1,7})|#x([\da-f]{1,6})|(colon|sol|period|bsol|commat|tab|newline));/i;
const ENTITY_BEGUN = /^&(?:#(?:\d{0,7}|x[\da-f]{0,6})|[a-z]{0,7})$/i;
const PART_OF_ADDRESS = /^[a-z\d:/.\\@]$/i;

/** At a `&`: nobody writes a letter or a colon as a number, but to hide an address from who looks for one. */
export function entity({ ahead, complete }: Around): Verdict {
  const match = ENTITY.exec(ahead);
  if (match === null) return ENTITY_BEGUN.test(ahead) && !complete ? 'more' : undefined;
  const [, decimal, hex, name] = match;
  const code = decimal === undefined ? parseInt(hex ?? '0', 16) : Number(decimal);
  const hides =
    name !== undefined || (code < 0x80 && PART_OF_ADDRESS.test(String.fromCharCode(code)));
  return hides ? { length: 1, shown: '[&]', finding: 'url', covers: true } : undefined;
}

const ADDRESS_END = /[\s"'`<>()[\]{},;|^]/;
const PLAIN_LENGTH_MAX = 160;
const PLAIN_SCHEMES: ReadonlySet<string> = new Set(['http', 'https', 'ws', 'wss', 'git', 'ssh']);
const SEGMENT_CARRIES = /[\p{L}\p{N}_+=-]{33}|@|%|\\|&#/u;

/** Program code may name a service: an address without anything in it that could carry much. */
function plainAddress({ before, ahead, complete }: Around): Verdict {
  const end = ahead.search(ADDRESS_END);
  if (end < 0 && !complete && ahead.length <= PLAIN_LENGTH_MAX) return 'more';
  const address = end < 0 ? ahead : ahead.slice(0, end);
  const name = SCHEME_BEFORE.exec(before)?.[0].toLowerCase() ?? '';
  const plain =
    PLAIN_SCHEMES.has(name) &&
    address.length <= PLAIN_LENGTH_MAX &&
    !SEGMENT_CARRIES.test(address.slice(3));
  return plain ? { length: address.length, shown: address } : undefined;
}

const LABEL_BEFORE = /[\p{L}\p{N}-]*$/u;
/** `//host`, where no word is before it: links are made of that, of whatever host. */
const AFTER_SLASHES = /(?<![\p{L}\p{N}_])\/\/(?:[^ \t\n/\\<>|\]]*[^ \t\n/\\<>|\][])?$/u;
const WWW = /(?<![\p{L}\p{N}_])www$/iu;
const DOTS = /^(?:\\?\.[\p{L}\p{N}-]+)*/u;
const HOST_LENGTH_MAX = 255;
/** Endings that are hardly anything but a host's: a link is made of `name.com` alone. */
const HOST_ENDINGS: ReadonlySet<string> = new Set(
  'com net org edu gov mil biz info aero asia coop museum shop xxx рф'.split(' '),
);
/** Also names of fields and files: with a path behind it is a host. */
const HOST_ENDINGS_WITH_PATH: ReadonlySet<string> = new Set(
  'app dev xyz online site store cloud page link click top live club blog tech space website fun icu work zip mov name pro web int example test internal local'.split(
    ' ',
  ),
);
/** Of two letters, and yet files or fields. */
const FILE_ENDINGS: ReadonlySet<string> = new Set(
  'py md sh rs pl so cc ps mm id is in to it at as do no my me am pm ai'.split(' '),
);

/** At a `.` (or `\.`) outside of an address whose scheme was seen. */
export function bareHost({ before, ahead, complete }: Around, code: boolean): Verdict {
  const escaped = ahead[0] === '\\' ? 1 : 0;
  const next = ahead[escaped + 1];
  if (next === undefined && !complete) return 'more';
  const rest = DOTS.exec(ahead)?.[0] ?? '';
  if (rest === '') {
    // Some programs take any sign for a letter of a host where one is sure to stand.
    const host = WWW.test(before) || (!code && AFTER_SLASHES.test(before));
    if (!host || next === undefined || next === '.' || /[ \t\n]/.test(next)) return undefined;
    return { length: escaped + 1, shown: '[.]', finding: 'url', host: '', covers: true };
  }
  const first = LABEL_BEFORE.exec(before)?.[0] ?? '';
  const behind = ahead.slice(rest.length);
  // A dot or a backslash at the end may go on as a host, and a colon as a port.
  const open = /^(?:\\?\.?|:\d{0,5})$/.test(behind);
  const name = `${first}${rest}`.replaceAll('\\', '');
  if (open && !complete && name.length <= HOST_LENGTH_MAX) return 'more';
  const host = name.length > HOST_LENGTH_MAX ? name : name.replace(/-+$/, '');
  const path = /^(?:[/?#\\]|:\d)/.test(behind);
  if (!isHost(host, before.at(-1 - first.length) ?? '', before, behind, path, code))
    return undefined;
  // Of what is too long to be seen whole only the dot: the next one is looked at by itself.
  const long = name.length > HOST_LENGTH_MAX;
  const taken = long ? rest.slice(0, escaped + 1) : rest;
  return {
    length: taken.length,
    shown: taken.replaceAll(/\\?\./g, '[.]'),
    finding: 'url',
    host: long ? '' : lastLabels(host),
    covers: true,
  };
}

function isHost(
  host: string,
  previous: string,
  before: string,
  behind: string,
  path: boolean,
  code: boolean,
): boolean {
  if (host.length > HOST_LENGTH_MAX) return true;
  const labels = host.toLowerCase().split('.');
  if (labels[0] === 'www' && labels.length > 1) return true;
  if (code) return false;
  const ending = labels.at(-1) ?? '';
  if (AFTER_SLASHES.test(before)) return true;
  // A call; somebody's mail address; or a part of a path.
  if (behind.startsWith('(') || behind.startsWith('@')) return false;
  if (previous === '@' && !path) return false;
  if (previous === '/') return false;
  if (HOST_ENDINGS.has(ending) || ending.startsWith('xn--')) return true;
  const two = /^[a-z]{2}$/.test(ending);
  if (path) return two || HOST_ENDINGS_WITH_PATH.has(ending);
  return two && labels.length > 2 && !FILE_ENDINGS.has(ending);
}
