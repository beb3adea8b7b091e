/**
 * What a reader's program would fetch or open: the answer rendered by two markdown parsers that let HTML through and make
 * links by themselves, then every attribute of every tag, its address resolved as a browser does. Shares nothing with the
 * guard.
 */
import MarkdownIt from 'markdown-it';
import { marked } from 'marked';

const PAGE = 'https://reader.test/chat/1';
const markdownIt = new MarkdownIt({ html: true, linkify: true });

const TAG = /<([a-z][^\s/>]*)((?:"[^"]*"|'[^']*'|[^"'>])*)>/gi;
const ATTRIBUTE = /([^\s"'>/=]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)/g;
const ADDRESS =
  /^(?:src|href|xlink:href|action|formaction|data|poster|background|cite|longdesc|manifest|ping|from|to)$/i;
const SETS = /^(?:srcset|imagesrcset|style|content|values)$/i;
const ACTING = /^(?:script|iframe|style|noscript|xmp|plaintext)$/i;

const decoded = (text: string): string =>
  text.replace(
    /&(?:#x([\da-f]+)|#(\d+)|(\w+));?/gi,
    (whole, hex?: string, decimal?: string, name = '') => {
      if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
      const names: Record<string, string> = {
        sol: '/',
        period: '.',
        bsol: '\\',
        Tab: '\t',
        NewLine: '\n',
        amp: '&',
        quot: '"',
        lt: '<',
        gt: '>',
        colon: ':',
      };
      return names[name] ?? whole;
    },
  );

function elsewhere(address: string): boolean {
  const text = address.trim();
  // A mail to somebody is written by the reader; one with a text is not.
  if (/^mailto:[^@]*@[^?]*$/i.test(text)) return false;
  // `<std::string>` is a link for markdown, with a scheme that nothing knows.
  if (/^[a-z][\w+.-]*::/i.test(text)) return false;
  try {
    const { origin, hostname } = new URL(text, PAGE);
    // What programs make of `//localhost` is on the reader's own machine.
    return origin !== new URL(PAGE).origin && hostname !== 'localhost';
  } catch {
    return false;
  }
}

/**
 * A host without scheme, path and `www.`, of two labels or with the ending of a file (`README.md`): the guard leaves it,
 * for programs and texts are full of them.
 */
const bareName = (address: string): boolean =>
  /^http:\/\/[\p{L}\p{N}.-]+$/u.test(address) &&
  /\.(?:name|web|pro|[a-z]{2})$/.test(address) &&
  !address.includes('www.');

function found(html: string): string[] {
  const finds: string[] = [];
  for (const [whole, name = '', attributes = ''] of html.matchAll(TAG)) {
    if (ACTING.test(name)) finds.push(whole);
    for (const [, attribute = '', raw = ''] of attributes.matchAll(ATTRIBUTE)) {
      const value = decoded(raw.replace(/^["']|["']$/g, ''));
      const leads = ADDRESS.test(attribute)
        ? elsewhere(value) && !bareName(value)
        : SETS.test(attribute)
          ? /\/\//.test(value)
          : /^on[a-z]{3,}$/i.test(attribute);
      if (leads) finds.push(whole);
    }
  }
  return finds;
}

/** Tags of the rendered text that reach elsewhere. */
export function fetched(text: string): string[] {
  return [markdownIt.render(text), marked.parse(text, { async: false, gfm: true })].flatMap(found);
}
