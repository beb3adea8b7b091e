/**
 * How the engine's Node is started. No JIT: nothing executable has to be mapped while it runs, and a step costs the
 * same (the work is llama.cpp's). SIGUSR1 would open a debugger.
 */
export const nodeOptions = (): string[] => [
  '--jitless',
  '--disable-sigusr1',
  '--no-warnings',
  '--v8-pool-size=1',
];
