/** The command line; its process is main.ts. */
export { makeProgram, VERSION } from './program.ts';
