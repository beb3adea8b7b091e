/**
 * A stream's reader who stops reading: what is written waits in the socket, and the request keeps its place for as long
 * as the reader likes. So each write has an end. (The sequence itself waits for nobody: the pipeline's events are queued,
 * up to the context's length.)
 */
export class Stalled extends Error {}

export interface Writes {
  /** Resolves when the reader has room again; rejects with `Stalled`, after `onStalled`, when there is none for too long. */
  (work: Promise<unknown>): Promise<void>;
}

export function patientWrites(limitMs: number, onStalled: () => void): Writes {
  return async (work) => {
    let timer: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        onStalled();
        reject(new Stalled('the reader has stopped reading'));
      }, limitMs);
    });
    try {
      await Promise.race([work, stalled]);
    } finally {
      clearTimeout(timer);
    }
  };
}
