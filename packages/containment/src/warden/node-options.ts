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

/** How a warden's Node is started, by the agent or by its guard: `program` and the process id of whoever starts it. */
export const wardenArguments = (program: string): string[] => [
  '--disable-sigusr1',
  '--no-warnings',
  '--max-old-space-size=128',
  '--v8-pool-size=1',
  program,
  String(process.pid),
];

export const WARDEN_ENV: Readonly<Record<string, string>> = { LANG: 'C', UV_USE_IO_URING: '0' };
