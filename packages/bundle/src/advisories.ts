/**
 * The security advisories known on a day, for the packages in a bundle: asked of the registry by `npm audit`. When they
 * can't be had, that is what the file says: "none known" and "nobody was asked" must not look alike.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MinikeepError } from '@minikeep/protocol';
import { z } from 'zod';
import type { Component } from './components.ts';
import { NPM_AUDIT_MS_MAX } from './limits.ts';
import { npm } from './npm.ts';

const ADVISORY = z.object({
  package: z.string(),
  title: z.string(),
  severity: z.string(),
  url: z.string(),
  range: z.string(),
});

const ADVISORIES = z.object({
  /** `asked`: the list is what the registry knew on `date`. `not_asked`: nobody knows; `reason` says why. */
  status: z.enum(['asked', 'not_asked']),
  /** UTC, YYYY-MM-DD. */
  date: z.string().regex(/^\d{4}-\d{2}-\d{2}$/),
  reason: z.string(),
  /** What the question covered, and what it did not. */
  covers: z.string(),
  packages_asked: z.number().int(),
  advisories: z.array(ADVISORY),
});

export type Advisories = z.infer<typeof ADVISORIES>;

const COVERS =
  "The npm packages in this bundle. Advisories about Node.js and llama.cpp themselves are not in the registry: see nodejs.org and llama.cpp's repository.";

/** npm's report, as far as it is used (`auditReportVersion` 2). */
const REPORT = z.object({
  auditReportVersion: z.literal(2),
  vulnerabilities: z.record(
    z.string(),
    z.object({
      via: z.array(
        z.union([
          z.string(),
          z.object({
            name: z.string(),
            title: z.string(),
            url: z.string(),
            severity: z.string(),
            range: z.string(),
          }),
        ]),
      ),
    }),
  ),
});

/** Never throws but the signal's reason: a registry that doesn't answer is a result. */
export async function askAdvisories(
  components: readonly Component[],
  now: Date,
  signal: AbortSignal,
): Promise<Advisories> {
  const answer = {
    date: now.toISOString().slice(0, 10),
    covers: COVERS,
    packages_asked: components.length,
  };
  const folder = await mkdtemp(path.join(tmpdir(), 'minikeep-audit-'));
  try {
    await writeFile(path.join(folder, 'package.json'), JSON.stringify(manifestOf(components)));
    await writeFile(path.join(folder, 'package-lock.json'), JSON.stringify(lockOf(components)));
    const { stdout, stderr } = await npm(
      ['audit', '--json', '--package-lock-only'],
      folder,
      NPM_AUDIT_MS_MAX,
      signal,
    );
    const report = REPORT.safeParse(parsed(stdout));
    if (!report.success)
      return { ...answer, status: 'not_asked', reason: failure(stdout, stderr), advisories: [] };
    return { ...answer, status: 'asked', reason: '', advisories: advisoriesOf(report.data) };
  } catch (thrown) {
    signal.throwIfAborted();
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return { ...answer, status: 'not_asked', reason, advisories: [] };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** An answer from before (`--advisories FILE`), so that a bundle can be made again byte for byte. Throws `bundle.advisories`. */
export async function readAdvisories(file: string): Promise<Advisories> {
  try {
    return ADVISORIES.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    throw new MinikeepError('bundle.advisories', `${file} is no list of advisories`, {
      next: 'Give the advisories.json of an earlier bundle, or leave --advisories out.',
      cause,
    });
  }
}

/** The same answer is always the same bytes. */
export function advisoriesText(advisories: Advisories): string {
  return `${JSON.stringify(ADVISORIES.parse(advisories), null, 2)}\n`;
}

/** Where each lies: a second version of a package lies inside another package, as npm would put it. */
function places(components: readonly Component[]): [string, Component][] {
  const seen = new Map<string, number>();
  const others = [...new Set(components.map((component) => component.name))];
  return components.map((component) => {
    const before = seen.get(component.name) ?? 0;
    seen.set(component.name, before + 1);
    const host = others.filter((name) => name !== component.name)[before - 1];
    const folder = host === undefined ? '' : `node_modules/${host}/`;
    return [`${folder}node_modules/${component.name}`, component];
  });
}

const manifestOf = (components: readonly Component[]) => ({
  name: 'minikeep-bundle',
  version: '0.0.0',
  dependencies: Object.fromEntries(
    components.toReversed().map((component) => [component.name, component.version]),
  ),
});

/** A lockfile of npm's third version: all that `npm audit` reads. */
function lockOf(components: readonly Component[]) {
  const packages: Record<string, unknown> = { '': manifestOf(components) };
  for (const [place, component] of places(components))
    packages[place] = { version: component.version, integrity: component.integrity };
  return { name: 'minikeep-bundle', version: '0.0.0', lockfileVersion: 3, packages };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function failure(stdout: string, stderr: string): string {
  const said = z
    .object({ message: z.string().optional(), error: z.object({ summary: z.string() }).optional() })
    .safeParse(parsed(stdout));
  const text = said.success ? (said.data.message ?? said.data.error?.summary ?? '') : '';
  const line = stderr.split('\n').find((l) => /^npm (error|ERR!)/.test(l)) ?? '';
  const reason = (text || line || 'npm audit gave no report').replaceAll(
    /https?:\/\/\S+/g,
    'the registry',
  );
  return reason.replaceAll(/\s+/g, ' ').slice(0, 300);
}

function advisoriesOf(report: z.infer<typeof REPORT>): Advisories['advisories'] {
  const found = new Map<string, Advisories['advisories'][number]>();
  for (const { via } of Object.values(report.vulnerabilities))
    for (const cause of via) {
      if (typeof cause === 'string') continue;
      const { name, title, severity, url, range } = cause;
      found.set(`${name} ${url}`, { package: name, title, severity, url, range });
    }
  return [...found.keys()].toSorted().flatMap((key) => found.get(key) ?? []);
}
