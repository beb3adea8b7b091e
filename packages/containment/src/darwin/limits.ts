/** Bounds of the macOS sandbox. Times in milliseconds; the lossy log sets most of them. */

/** `log stream` says when it listens; a busy machine is slow to start it. */
export const LOG_START_MS_MAX = 3_000;
/** A refusal of our own must be in the log within this time; 7 to 12 ms are usual. */
export const LOG_DELAY_MS_MAX = 3_000;
/** Tries of one trial, and the pause before each next one: bursts and the first 50 ms are lost. */
export const TRIALS_MAX = 5;
export const TRIAL_PAUSE_MS = 300;
/** Between two trials of a monitor that works. */
export const TRIAL_EVERY_MS = 30_000;
/** Starts of `log stream` again after it ended, for one engine. */
export const LOG_RESTARTS_MAX = 3;
/** After the engine's end its last refusals may still be on their way. */
export const LOG_DRAIN_MS = 250;
/** What `ulimit` sets, soft and hard: no core file, no file that grows, few descriptors. */
export const ULIMITS = 'ulimit -c 0 && ulimit -f 0 && ulimit -n 256';
