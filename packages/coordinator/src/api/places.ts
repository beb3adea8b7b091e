/**
 * How many requests may be under way at once. A place is taken before the body is read, so that bodies can't fill the
 * memory either, and given back when the answer is over, also a streamed one.
 */
import type { MiddlewareHandler } from 'hono';
import { ApiError } from './errors.ts';

export interface Place {
  /** The answer goes on after the handler has returned: whoever takes over calls what it gets when it is over. */
  keep(): () => void;
}

/** For hono's context. */
export interface PlaceVariables {
  Variables: { place: Place };
}

/** Throws an ApiError 429 when all are taken. */
export function places(max: number): MiddlewareHandler<PlaceVariables> {
  let taken = 0;
  return async (context, next) => {
    if (taken >= max)
      throw new ApiError(429, 'too_many_requests', `${max} requests are under way already`);
    taken += 1;
    let open = true;
    let kept = false;
    const release = (): void => {
      if (open) taken -= 1;
      open = false;
    };
    const keep = (): (() => void) => {
      kept = true;
      return release;
    };
    context.set('place', { keep });
    try {
      await next();
    } finally {
      if (!kept) release();
    }
  };
}
