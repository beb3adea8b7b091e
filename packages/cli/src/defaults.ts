/** Defaults and ranges of flags that more than one command has. */

export const LOCAL_NODES_DEFAULT = 2;
export const LOCAL_NODES_MAX = 16;
export const SEED_MAX = 2 ** 32 - 1;
/** Context when none is asked for: the model's own, but not more than this. */
export const CONTEXT_DEFAULT_MAX = 4096;
export const CONTEXT_MAX = 16 * 1024 * 1024;
export const PARALLEL_MAX = 256;
export const THREADS_MAX = 256;
export const TOKENS_MAX = 16 * 1024 * 1024;
/** Stages of a check: one a layer for the deepest published models. */
export const STAGES_MAX = 128;
export const CHECK_TOKENS_MAX = 65_536;
