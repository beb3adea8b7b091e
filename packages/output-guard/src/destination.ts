/** Whether an address as a document holds it leads elsewhere, read as the most lenient renderer would. */

/** A path of a page's own, and no more than that. */
const PATH_LENGTH_MAX = 200;
const LABEL_LENGTH_MAX = 64;

/** With one letter it is a drive or a name, never a scheme that anything fetches. With nothing behind it, neither. */
const SCHEME = /^[a-z][a-z0-9+.-]+:./i;
// oxlint-disable-next-line no-control-regex -- browsers drop control characters inside addresses
const DISGUISED = /[\\\u0000-\u0020\u007f]|&[#a-z]/i;
const OWN_QUERY = /^[\w./~%-]*\?/;

/**
 * Escapes, entities and blanks inside count as leading elsewhere: whoever writes `&colon;` has a reason. So do a
 * query (the page's own server would be asked) and a path that is long enough to carry something.
 */
export function leadsElsewhere(address: string): boolean {
  const text = address.trim();
  return (
    text.length > PATH_LENGTH_MAX ||
    SCHEME.test(text) ||
    text.includes('//') ||
    DISGUISED.test(text) ||
    OWN_QUERY.test(text)
  );
}

const HOST = /^[^/]*\/\/(?:[^/?#\s]{0,300}@)?([\p{L}\p{N}._-]{1,300})/u;

/** The last two labels of an address's host; empty where it has none. */
export function hostOf(address: string): string {
  return lastLabels(HOST.exec(address.trim())?.[1] ?? '');
}

/** What a find may keep of a host: `secret.evil.example` → `evil.example`. */
export function lastLabels(host: string): string {
  return host
    .toLowerCase()
    .split('.')
    .filter((label) => label !== '')
    .slice(-2)
    .map((label) => label.slice(0, LABEL_LENGTH_MAX))
    .join('.');
}
