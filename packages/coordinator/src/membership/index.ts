/** What the command line needs to make a cluster. */
export * from './create.ts';
export * from './defaults.ts';
