/** Limits and times of every connection between minikeep's processes. */
import { FRAME_BYTES_MAX } from './frame.ts';

/** Compared in the first call; unequal versions don't work together. */
export const PROTOCOL_VERSION = 3;

/** A frame and the five bytes around it; every other message is far smaller. */
export const MESSAGE_BYTES_MAX = FRAME_BYTES_MAX + 1024;

/** Data sent ahead of the receiver's reading: large enough that a frame of a prompt chunk need not wait for round trips. */
export const FLOW_WINDOW_BYTES = 8 * 1024 * 1024;

/** HTTP/2's own frames: fewer and larger ones cost less for a prompt chunk's rows. */
export const HTTP2_FRAME_BYTES_MAX = 1024 * 1024;

/** Half-open peers: a ping after this long without anything received … */
export const KEEPALIVE_IDLE_MS = 3_000;
/** … and the connection is given up when it was not answered in this time. */
export const KEEPALIVE_TIMEOUT_MS = 5_000;

/** The same for streams of frames, where a link that is cut holds a conversation up: another link is taken then. */
export const FRAME_KEEPALIVE_IDLE_MS = 1_000;
export const FRAME_KEEPALIVE_TIMEOUT_MS = 3_000;

/** How long a sender of frames looks for another way before it gives its neighbour up. */
export const RECONNECT_MS = 15_000;

/** TCP connect, TLS handshake and HTTP/2 settings together. */
export const CONNECT_TIMEOUT_MS = 5_000;

/** A call that only asks or sets something. */
export const CALL_TIMEOUT_MS = 10_000;

export const CONCURRENT_STREAMS_MAX = 256;
