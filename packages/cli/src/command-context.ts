/** What every command gets, besides its own arguments. */
import type { Interrupts } from './interrupts.ts';
import type { Terminal } from './terminal.ts';

export interface CommandContext {
  readonly terminal: Terminal;
  readonly interrupts: Interrupts;
  /** The folder that holds the programs and libraries. */
  readonly distFolder: string;
}

/** Flags that every command has. */
export interface CommonFlags {
  readonly json?: boolean;
  readonly verbose?: boolean;
}
