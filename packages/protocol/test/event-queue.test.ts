/** The queue between callbacks and readers: in order, bounded, ended once. */
import { describe, expect, it } from 'vitest';
import { EventQueue } from '../src/event-queue.ts';

const collect = async <T>(queue: EventQueue<T>): Promise<T[]> => {
  const items: T[] = [];
  for await (const item of queue) items.push(item);
  return items;
};

describe('an event queue', () => {
  it('hands over in order what was pushed before and while it is read', async () => {
    const queue = new EventQueue<number>(10);
    queue.push(1);
    const reading = collect(queue);
    await Promise.resolve();
    for (const n of [2, 3, 4]) {
      queue.push(n);
      if (n === 3) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    queue.end();
    expect(await reading).toEqual([1, 2, 3, 4]);
  });

  it('refuses what goes beyond its limit, and takes more when it was read', async () => {
    const queue = new EventQueue<number>(2);
    expect([queue.push(1), queue.push(2), queue.push(3)]).toEqual([true, true, false]);
    const reader = queue[Symbol.asyncIterator]();
    expect((await reader.next()).value).toBe(1);
    expect(queue.push(4)).toBe(true);
    queue.end();
    expect((await reader.next()).value).toBe(2);
    expect((await reader.next()).value).toBe(4);
    expect((await reader.next()).done).toBe(true);
  });

  it('ends with its error after what is queued, and takes nothing afterwards', async () => {
    const queue = new EventQueue<number>(5);
    queue.push(1);
    queue.end(new Error('broken'));
    queue.end();
    expect(queue.push(2)).toBe(false);
    const reader = queue[Symbol.asyncIterator]();
    expect((await reader.next()).value).toBe(1);
    await expect(reader.next()).rejects.toThrow('broken');
  });
});
