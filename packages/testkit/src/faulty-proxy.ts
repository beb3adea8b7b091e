/** A link between two processes that can be cut or fall silent at any byte: TCP, forwarded as it is. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

export interface ProxyFaults {
  /** Both sides are cut after exactly so many bytes from the server. */
  readonly cutAfterBytes?: number;
  /** After so many bytes from the server nothing goes through any more, and nobody is told: a cable that was pulled. */
  readonly silentAfterBytes?: number;
  /** Each piece arrives so much later, in each direction: where the kernel has no netem. */
  readonly delayMs?: number;
}

export class FaultyProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #faults: ProxyFaults = {};
  #passedBytes = 0;
  #pulled = false;

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = createServer((client) => {
      const server = connect(target);
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.once('close', () => {
          this.#sockets.delete(socket);
          client.destroy();
          server.destroy();
        });
      }
      const delay = (): number => this.#faults.delayMs ?? 0;
      forward(client, server, () => this.#silent, delay);
      // Before it is forwarded: the last piece may be cut in two.
      server.on('data', (data: Buffer) => this.#count(data, client, server));
      forward(server, client, () => this.#silent, delay);
    });
  }

  /** Listens on a port of the kernel's choice and forwards to `host:port`. */
  static async start(address: string): Promise<FaultyProxy> {
    const at = address.lastIndexOf(':');
    const proxy = new FaultyProxy({
      host: address.slice(0, at),
      port: Number(address.slice(at + 1)),
    });
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  /** host:port */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** From the server so far, or since the faults were set. */
  get passedBytes(): number {
    return this.#passedBytes;
  }

  /** Replaces the faults; bytes are counted anew. Connections that there are end. */
  set(faults: ProxyFaults): void {
    this.#faults = faults;
    this.#passedBytes = 0;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** The cable is pulled: from now on nothing goes through, and nobody is told. `plug` ends it, for new connections. */
  pull(): void {
    this.#pulled = true;
  }

  plug(): void {
    this.#pulled = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get #silent(): boolean {
    return this.#pulled || this.#passedBytes >= (this.#faults.silentAfterBytes ?? Infinity);
  }

  #count(data: Buffer, client: Socket, server: Socket): void {
    const left = (this.#faults.cutAfterBytes ?? Infinity) - this.#passedBytes;
    this.#passedBytes += data.byteLength;
    if (data.byteLength <= left && left > 0) return;
    if (client.writableEnded) return;
    server.pause();
    client.end(data.subarray(0, Math.max(0, left)), () => server.destroy());
  }
}

/** With back-pressure; `swallow` says, before each piece, that it goes nowhere. */
function forward(from: Socket, to: Socket, swallow: () => boolean, delayMs: () => number): void {
  const pass = (data: Buffer): void => {
    if (to.destroyed || to.writableEnded || to.write(data)) return;
    from.pause();
    to.once('drain', () => from.resume());
  };
  from.on('data', (data: Buffer) => {
    if (swallow() || to.destroyed || to.writableEnded) return;
    const late = delayMs();
    if (late > 0) setTimeout(pass, late, data);
    else pass(data);
  });
  from.on('end', () => setTimeout(() => to.end(), delayMs()));
}
