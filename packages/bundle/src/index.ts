export * from './pins.ts';
export { makeBundle, type BundleOptions, type MadeBundle } from './make-bundle.ts';
export { checkBundle, type BundleFacts } from './read-bundle.ts';
export { changedPrograms, type ChangedProgram } from './changed-programs.ts';
export { writeProgramDigests } from './program-digests.ts';
export { partialOf } from './archive.ts';
