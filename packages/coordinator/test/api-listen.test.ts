/** Without keys the API is for this machine alone, whatever somebody writes into node.json. */
import { expect, it } from 'vitest';
import { startApi } from '../src/api/server.ts';
import type { Cluster } from '../src/cluster.ts';

// Never asked: nothing comes so far.
const cluster = {} as Cluster;

it.each(['0.0.0.0:0', '[::]:0', '192.168.1.20:0', 'lab.example:0', '127.lab.example:0'])(
  'does not listen on %s',
  async (listen) => {
    await expect(startApi(cluster, listen, '0')).rejects.toMatchObject({
      code: 'api.not_loopback',
    });
  },
);

it.each(['127.0.0.1:0', 'localhost:0'])('listens on %s', async (listen) => {
  const api = await startApi(cluster, listen, '0');
  try {
    const response = await fetch(`${api.url}/healthz`);
    expect(response.status).toBe(200);
  } finally {
    await api.close();
  }
});
