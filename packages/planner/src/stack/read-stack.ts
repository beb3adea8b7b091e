/** Reads a stack file's text: bounded YAML (or JSON), and every mistake with its line and key. */
import { EXIT, MinikeepError } from '@minikeep/protocol';
import { isMap, isNode, isPair, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import type { z } from 'zod';
import { formatBytes } from '../format.ts';
import { STACK_SCHEMA, type Stack } from './schema.ts';

export const STACK_BYTES_MAX = 1024 * 1024;
/** Deeper than any stack file; a parser that recurses must not meet a thousand brackets. */
const DEPTH_MAX = 32;
const VALUE_SHOWN_MAX = 60;
const PROBLEMS_SHOWN_MAX = 20;

/** One mistake: where, and what. */
export interface StackProblem {
  /** 1-based; 0 when it has no place. */
  readonly line: number;
  /** "nodes[1].hardware.memory"; empty for the whole file. */
  readonly key: string;
  readonly message: string;
}

/**
 * `source` names the file in messages. Error `stack.invalid`: says each mistake with line and key (details
 * have those of the first); nothing of the file is used then.
 */
export function parseStack(text: string, source: string): Stack {
  if (Buffer.byteLength(text) > STACK_BYTES_MAX)
    throw invalid(source, [problem(0, `is larger than ${formatBytes(STACK_BYTES_MAX)}`)]);
  if (nestsTooDeep(text)) throw invalid(source, [problem(0, 'is nested too deeply')]);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, version: '1.2', merge: false });
  if (document.errors.length > 0)
    throw invalid(
      source,
      document.errors.map((e) => problem(e.linePos?.[0].line ?? 0, firstLine(e.message))),
    );
  let value: unknown;
  try {
    // An alias is the way to make a small file enormous.
    value = document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw invalid(source, [problem(0, firstLine((error as Error).message))]);
  }
  const parsed = STACK_SCHEMA.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  throw invalid(
    source,
    parsed.error.issues.flatMap((issue) => problemsOf(issue, document, lines)),
  );
}

const problem = (line: number, message: string, key = ''): StackProblem => ({ line, key, message });

const firstLine = (text: string): string =>
  (text.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');

/** Indentation and brackets bound the depth of what the parser will build. */
function nestsTooDeep(text: string): boolean {
  let open = 0;
  for (const character of text) {
    if (character === '[' || character === '{') open++;
    else if (character === ']' || character === '}') open--;
    if (open > DEPTH_MAX) return true;
  }
  for (const line of text.split('\n')) {
    // "- - - -" opens a list with each dash.
    const dashes = /^(?:\s*[-?]\s)+/.exec(line)?.[0] ?? '';
    if (dashes.replace(/\s/g, '').length > DEPTH_MAX) return true;
    if ((/^ */.exec(line)?.[0].length ?? 0) > DEPTH_MAX * 8) return true;
  }
  return false;
}

function problemsOf(
  issue: z.core.$ZodIssue,
  document: Document,
  lines: LineCounter,
): StackProblem[] {
  const at = (path: readonly PropertyKey[]): number => lineOf(document, lines, path);
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((name) =>
      problem(at([...issue.path, name]), 'is no key of a stack file', keyOf([...issue.path, name])),
    );
  return [problem(at(issue.path), messageOf(issue), keyOf(issue.path))];
}

function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.input === undefined) return 'is missing';
  const said = issue.message.replace(/^Invalid (input|option): /, '');
  const { input } = issue;
  return typeof input === 'string' || typeof input === 'number' ? `${shown(input)} ${said}` : said;
}

function shown(value: string | number): string {
  const text = JSON.stringify(value);
  return text.length > VALUE_SHOWN_MAX ? `${text.slice(0, VALUE_SHOWN_MAX)}…"` : text;
}

const keyOf = (path: readonly PropertyKey[]): string =>
  path.reduce<string>(
    (key, part) =>
      typeof part === 'number'
        ? `${key}[${part}]`
        : `${key}${key === '' ? '' : '.'}${String(part)}`,
    '',
  );

/** The line of the deepest part of `path` that is in the file: a missing key has the line of what should have it. */
function lineOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = isNode(node) ? node.range?.[0] : undefined;
  for (const part of path) {
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === String(part),
      );
      if (pair === undefined) break;
      if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
      next = pair.value;
    } else if (typeof node === 'object' && node !== null && 'items' in node) {
      next = (node.items as unknown[])[Number(part)];
      if (isNode(next)) offset = next.range?.[0] ?? offset;
    }
    if (next === undefined || next === null) break;
    node = next;
  }
  return offset === undefined ? 0 : lines.linePos(offset).line;
}

function invalid(source: string, problems: readonly StackProblem[]): MinikeepError {
  const shownProblems = problems.slice(0, PROBLEMS_SHOWN_MAX).map(({ line, key, message }) => {
    const where = line === 0 ? source : `${source}, line ${line}`;
    return `${where}: ${key === '' ? '' : `${key} `}${message}`;
  });
  const more = problems.length - shownProblems.length;
  return new MinikeepError(
    'stack.invalid',
    [...shownProblems, ...(more > 0 ? [`… and ${more} more`] : [])].join('\n'),
    {
      next: 'Correct the file: cluster-configs/ has examples, cluster-configs/stack.schema.json lets an editor complete it.',
      exitCode: EXIT.usage,
      details: {
        line: problems[0]?.line ?? 0,
        key: problems[0]?.key ?? '',
        problems: problems.length,
      },
    },
  );
}
