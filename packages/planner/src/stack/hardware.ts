/**
 * What a machine's name says about its speed, for plans about machines that nobody has measured yet. A measured
 * speed always goes before these.
 */

export interface Chip {
  readonly name: string;
  /** What the memory can deliver, bytes a second; a program gets less. */
  readonly memoryBytesPerSecond: number;
  /** What the GPU can compute with 16-bit numbers, operations a second; a program gets less. */
  readonly operationsPerSecond: number;
}

/**
 * [name, memory in GB/s, GPU in 10^12 operations a second]. Memory: Apple's technical specifications of each Mac
 * (support.apple.com/specs); where a chip is sold in two variants, the smaller one. GPU: cores × 128 lanes × 2 ×
 * clock of the variant with the fewest cores, which Apple doesn't publish; from measurements that others published
 * (github.com/philipturner/metal-benchmarks), rounded down.
 */
const ROWS = [
  ['M1', 68, 2.3],
  ['M1 Pro', 200, 4.5],
  ['M1 Max', 400, 7.8],
  ['M1 Ultra', 800, 15.9],
  ['M2', 100, 2.8],
  ['M2 Pro', 200, 5.7],
  ['M2 Max', 400, 10.7],
  ['M2 Ultra', 800, 21.5],
  ['M3', 100, 2.8],
  ['M3 Pro', 150, 4.9],
  ['M3 Max', 300, 10.6],
  ['M3 Ultra', 819, 21.2],
  ['M4', 120, 3.2],
  ['M4 Pro', 273, 6.4],
  ['M4 Max', 410, 12.8],
] as const;

export const CHIPS: readonly Chip[] = ROWS.map(([name, gb, teraops]) => ({
  name,
  memoryBytesPerSecond: gb * 1e9,
  operationsPerSecond: teraops * 1e12,
}));

/**
 * What decoding and reading prompts get of those: medians of what was measured with llama.cpp on these chips
 * (github.com/ggml-org/llama.cpp/discussions/4167: a 7 B model at Q4_0, 3.8 GB read for a token; M1 to M4, Pro and
 * Max: 0.6 to 0.8 of the memory's speed). A plan made from a name is good to about a quarter.
 */
export const REACHED_MEMORY_SHARE = 0.7;
export const REACHED_COMPUTE_SHARE = 0.7;

const GIB = 1024 ** 3;

/** Without a raised `iogpu.wired_limit_mb` a GPU gets two thirds of a Mac's memory up to 36 GiB, three quarters above. */
const WIRED_LARGE_FROM_BYTES = 36 * GIB;
/** macOS without a screen, the agent and the wardens keep this much of a Mac, whatever the GPU may have. */
const MAC_SYSTEM_BYTES_MIN = 4 * GIB;
const MAC_SYSTEM_SHARE = 1 / 10;
/** Linux and the agent keep this much. */
const LINUX_SYSTEM_BYTES = GIB;

/** What macOS lets the GPU wire by itself. `memory` in bytes. */
export function defaultWiredLimit(memory: number): number {
  return Math.floor(memory > WIRED_LARGE_FROM_BYTES ? (memory * 3) / 4 : (memory * 2) / 3);
}

/** The largest limit that leaves the system what it needs, in bytes, whole MiB; never below the default. */
export function highestWiredLimit(memory: number): number {
  const system = Math.max(MAC_SYSTEM_BYTES_MIN, memory * MAC_SYSTEM_SHARE);
  const limit = Math.floor((memory - system) / 1024 ** 2) * 1024 ** 2;
  return Math.max(defaultWiredLimit(memory), limit);
}

/** What an engine may use of a Linux machine's memory. */
export const linuxBudget = (memory: number): number => Math.max(0, memory - LINUX_SYSTEM_BYTES);
