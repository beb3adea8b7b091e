/** The models that a cluster knows. */
export * from './catalogue.ts';
export * from './digest-index.ts';
export * from './find-model.ts';
export * from './import.ts';
export * from './kept-files.ts';
export * from './library.ts';
export * from './report.ts';
