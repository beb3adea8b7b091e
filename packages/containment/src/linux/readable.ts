/**
 * Watches a descriptor that Node has no class for. koffi calls back outside of Node's callback scope, where promises
 * and nextTick would wait for some other event, so the work is done in an immediate of the same turn.
 */
import koffi from 'koffi';

export interface Watch {
  readonly close: () => void;
}

/** Calls `onReadable` whenever `fd` is readable or its other side is gone; makes the descriptor non-blocking. */
export function watchReadable(fd: number, onReadable: () => void): Watch {
  let scheduled = false;
  let closed = false;
  const poll = koffi.node.poll(fd, { readable: true, disconnect: true }, () => {
    if (scheduled || closed) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (!closed) onReadable();
    });
  });
  return {
    close: () => {
      if (closed) return;
      closed = true;
      poll.close();
    },
  };
}
