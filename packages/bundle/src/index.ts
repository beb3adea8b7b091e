export * from './pins.ts';
export { makeBundle, type BundleOptions, type MadeBundle } from './make-bundle.ts';
export { checkBundle, type BundleFacts } from './read-bundle.ts';
export { partialOf } from './archive.ts';
