/** No wait without a limit. */

/** The promise's value, or `timeout`. */
export async function limited<T>(promise: Promise<T>, ms: number): Promise<T | 'timeout'> {
  const { promise: late, resolve } = Promise.withResolvers<'timeout'>();
  const timer = setTimeout(() => resolve('timeout'), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
