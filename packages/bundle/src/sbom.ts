/**
 * The bill of materials of a bundle: CycloneDX 1.6 in JSON (cyclonedx.org/docs/1.6/json). Pure: the same parts give the
 * same bytes, so it has no time stamp, and its serial number follows from its content.
 */
import { textDigest } from './digests.ts';
import type { Component } from './components.ts';
import type { PinnedFile, PinnedPackage, Platform } from './pins.ts';

export interface SbomParts {
  readonly version: string;
  readonly platform: Platform;
  readonly components: readonly Component[];
  readonly packages: readonly PinnedPackage[];
  readonly files: readonly PinnedFile[];
  readonly models: readonly { readonly path: string; readonly sha256: string }[];
}

/** llama.cpp inside @node-llama-cpp 3.21.1. */
const LLAMA_CPP = { name: 'llama.cpp', version: '0.4.0', licence: 'MIT' };

export function sbomText(parts: SbomParts): string {
  const main = {
    type: 'application',
    'bom-ref': `minikeep@${parts.version}`,
    name: 'minikeep',
    version: parts.version,
    licenses: licences('Apache-2.0'),
    properties: [{ name: 'minikeep:platform', value: parts.platform }],
  };
  const libraries = [...parts.components, ...parts.packages].map((component) =>
    packageComponent(component, parts.files),
  );
  const unique = [...new Map(libraries.map((c) => [c['bom-ref'], c])).values()].toSorted((a, b) =>
    a['bom-ref'] < b['bom-ref'] ? -1 : 1,
  );
  const engine = {
    type: 'library',
    'bom-ref': `${LLAMA_CPP.name}@${LLAMA_CPP.version}`,
    name: LLAMA_CPP.name,
    version: LLAMA_CPP.version,
    licenses: licences(LLAMA_CPP.licence),
    description: 'shared libraries, unchanged, from the package @node-llama-cpp',
  };
  const models = parts.models.map((model) => ({
    type: 'machine-learning-model',
    'bom-ref': `model:${model.path}`,
    name: model.path,
    hashes: [{ alg: 'SHA-256', content: model.sha256 }],
  }));
  const components = [...unique, engine, ...models];
  const body = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: main },
    components,
    dependencies: [
      { ref: main['bom-ref'], dependsOn: components.map((c) => c['bom-ref']) },
      ...components.map((c) => ({ ref: c['bom-ref'] })),
    ],
  };
  const { bomFormat, specVersion, ...rest } = body;
  const serialNumber = `urn:uuid:${uuidOf(JSON.stringify(body))}`;
  return `${JSON.stringify({ bomFormat, specVersion, serialNumber, ...rest }, null, 2)}\n`;
}

function packageComponent(component: Component, files: readonly PinnedFile[]) {
  const { name, version, licence, integrity } = component;
  const purl = `pkg:npm/${name.replace(/^@/, '%40')}@${version}`;
  const own = files.filter((file) => file.package === name);
  const slash = name.indexOf('/');
  return {
    type: 'library',
    'bom-ref': purl,
    ...(slash > 0 && { group: name.slice(0, slash) }),
    name: slash > 0 ? name.slice(slash + 1) : name,
    version,
    licenses: licences(licence),
    purl,
    hashes: [{ alg: 'SHA-512', content: hexOf(integrity) }],
    ...(own.length > 0 && {
      components: own.map((file) => ({
        type: 'file',
        name: file.path,
        hashes: [{ alg: 'SHA-256', content: file.sha256 }],
      })),
    }),
  };
}

/** An expression (AND, OR) is said otherwise than a single licence. */
const licences = (licence: string) =>
  /[\s(]/.test(licence)
    ? [{ expression: licence.replace(/^\((.*)\)$/, '$1') }]
    : [{ license: { id: licence } }];

const hexOf = (integrity: string): string =>
  Buffer.from(integrity.slice(integrity.indexOf('-') + 1), 'base64').toString('hex');

/** A UUID (version 8: of one's own making) from the content's SHA-256. */
function uuidOf(text: string): string {
  const hex = textDigest(text);
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
