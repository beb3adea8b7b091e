/** The command line; its process is main.ts. */
export { makeProgram } from './program.ts';
