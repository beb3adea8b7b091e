/** The sandbox's bounds. Sizes in bytes, times in milliseconds; the reasons are attacks of WARDEN.md. */

/** What the warden copies out of the engine at most, whatever length the engine names. */
export const ADDRESS_BYTES_MAX = 128;
export const PATH_BYTES_MAX = 4096;
export const DNS_BYTES_MAX = 512;
/** Escaped text of one record. */
export const TEXT_CHARACTERS_MAX = 300;
/** All records of one engine; beyond it there are counters. */
export const RECORD_BYTES_MAX = 16 * 1024;
/** The engine's stderr that is kept. */
export const STDERR_TAIL_BYTES = 4096;
/** How long nothing may be heard of a start while none of its processes wants a processor: then it hangs. */
export const START_SILENCE_MS_MAX = 30_000;
/** A start altogether, on a machine that hardly gets to it. */
export const START_MS_MAX = 300_000;
/** How long a warden may take to end its engine before it is killed itself, and the engine with it. */
export const KILL_MS_MAX = 1_000;
export const CONTROL_LINE_BYTES_MAX = 1024 * 1024;
export const ALLOWED_FILES_MAX = 4096;

/** setrlimit: resource number and value, soft and hard. */
export const ENGINE_RLIMITS: readonly {
  readonly resource: number;
  readonly value: number;
  readonly why: string;
}[] = [
  {
    resource: 4,
    value: 1,
    why: 'CORE: below the smallest core, and at 1 the kernel skips pipe handlers too',
  },
  { resource: 1, value: 0, why: 'FSIZE: no file can grow' },
  { resource: 7, value: 256, why: 'NOFILE: few pipes, little kernel memory' },
  { resource: 11, value: 64, why: 'SIGPENDING' },
  { resource: 12, value: 0, why: 'MSGQUEUE' },
];
/** RLIMIT_NPROC, only where the engine's user is its own. */
export const RLIMIT_NPROC = 6;
