/** The program that agents start on macOS, one for each engine. */
import { MACOS_COMMANDS } from './commands.ts';
import { serveWarden } from './serve.ts';

serveWarden(MACOS_COMMANDS);
