/**
 * Threads of each engine on this machine when none are asked for: half of the cores. llama.cpp's threads wait for each
 * other by spinning; on cores that other work needs too (or that are two faces of one), all of them are far slower
 * than half: 1 token a second instead of 190, measured with a tiny model on two busy cores.
 */
import { availableParallelism } from 'node:os';

export const localThreads = (): number => Math.max(1, Math.floor(availableParallelism() / 2));
