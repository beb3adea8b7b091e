/** The program that agents start on macOS, one for each engine. */
import { MACOS_COMMANDS } from './commands.ts';
import { serveSeatbelt } from './warden.ts';

serveSeatbelt(MACOS_COMMANDS);
