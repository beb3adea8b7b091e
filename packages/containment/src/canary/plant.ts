/**
 * What the runner lays out for the canary to reach for, and looks at afterwards: files that must stay as they are and
 * unread, services of this machine that nobody may call. They are open to everyone, so that nothing but the sandbox
 * is in the way. A witness that is independent of sandbox and canary.
 */
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import type { Facts } from './facts.ts';
import type { CanaryInspection, CanaryPlatform } from './types.ts';

const OPEN_FOLDER = 0o777;
const OPEN_FILE = 0o666;
const GIVEN_BYTES = 8192;

export interface PlantOptions {
  readonly platform: CanaryPlatform;
  /** Where slices are kept; must not get a new file either. */
  readonly cache?: string;
}

export class Plant {
  readonly facts: Facts;
  /** The one file that the canary may read. */
  readonly given: string;
  readonly #root: string;
  readonly #watched: readonly string[];
  readonly #before: string;
  readonly #servers: Server[];
  readonly #udp: DatagramSocket;
  readonly #calls: string[];

  private constructor(parts: {
    facts: Facts;
    root: string;
    watched: readonly string[];
    servers: Server[];
    udp: DatagramSocket;
    calls: string[];
  }) {
    this.facts = parts.facts;
    this.given = String(parts.facts['given']);
    this.#root = parts.root;
    this.#watched = parts.watched;
    this.#servers = parts.servers;
    this.#udp = parts.udp;
    this.#calls = parts.calls;
    this.#before = fingerprint(this.#root);
  }

  static async lay(options: PlantOptions): Promise<Plant> {
    const nonce = randomBytes(6).toString('hex');
    const root = realpathSync(mkdtempSync(path.join(tmpdir(), 'minikeep-canary-')));
    const calls: string[] = [];
    const servers: Server[] = [];
    const udp = createSocket('udp4');
    try {
      const at = layFiles(root);
      const tcpPort = await listenTcp(servers, calls);
      await listenPath(servers, calls, at.socket);
      const abstract = `minikeep-canary-${nonce}`;
      if (options.platform === 'linux') await listenPath(servers, calls, `\0${abstract}`);
      const udpPort = await listenUdp(udp, calls);
      const cache =
        options.cache ??
        path.join(process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'), 'minikeep');
      const facts: Facts = {
        ...at,
        nonce,
        abstract,
        cache,
        home: homedir(),
        temp: tmpdir(),
        node: process.execPath,
        agent: process.pid,
        tcp_port: tcpPort,
        udp_port: udpPort,
      };
      const watched = [homedir(), tmpdir(), '/var/tmp', '/dev/shm', cache, '/'];
      return new Plant({ facts, root, watched, servers, udp, calls });
    } catch (error) {
      for (const server of servers) server.close();
      udp.close();
      rmSync(root, { recursive: true, force: true });
      throw error;
    }
  }

  /** What changed although nothing may have. */
  inspect(): CanaryInspection[] {
    const strays = this.#watched.flatMap((folder) =>
      listing(folder)
        .filter((name) => name.includes(String(this.facts['nonce'])))
        .map((name) => path.join(folder, name)),
    );
    const changed = fingerprint(this.#root) !== this.#before;
    return [
      {
        name: 'writing-witness',
        title: 'the files laid out for it are as they were, and no new one is anywhere',
        ok: !changed && strays.length === 0,
        finding: changed
          ? `files in ${this.#root} were changed`
          : strays.length > 0
            ? `written: ${strays.join(', ')}`
            : 'nothing was written',
      },
      {
        name: 'network-witness',
        title: 'the services laid out for it were not called',
        ok: this.#calls.length === 0,
        finding: this.#calls.length === 0 ? 'nobody called' : `called: ${this.#calls.join(', ')}`,
      },
    ];
  }

  async clear(): Promise<void> {
    await Promise.all([
      ...this.#servers.map((server) => new Promise<void>((done) => server.close(() => done()))),
      new Promise<void>((done) => this.#udp.close(() => done())),
    ]);
    rmSync(this.#root, { recursive: true, force: true });
  }
}

function layFiles(
  root: string,
): Record<
  | 'folder'
  | 'given'
  | 'given_folder'
  | 'secrets'
  | 'node_key'
  | 'slice'
  | 'user_file'
  | 'link'
  | 'socket',
  string
> {
  chmodSync(root, 0o755);
  const at = {
    folder: path.join(root, 'open'),
    given: path.join(root, 'given', 'slice.gguf'),
    given_folder: path.join(root, 'given'),
    secrets: path.join(root, 'secrets'),
    node_key: path.join(root, 'secrets', 'node.key'),
    slice: path.join(root, 'secrets', 'other.gguf'),
    user_file: path.join(root, 'secrets', 'letter.txt'),
    link: path.join(root, 'given', 'link'),
    socket: path.join(root, 'open', 's'),
  };
  for (const folder of [at.folder, at.given_folder, at.secrets]) {
    mkdirSync(folder);
    chmodSync(folder, OPEN_FOLDER);
  }
  const victim = path.join(at.folder, 'victim');
  for (const file of [at.given, at.node_key, at.slice, at.user_file, victim]) {
    writeFileSync(file, Buffer.alloc(file === at.given ? GIVEN_BYTES : 64, 'minikeep '));
    chmodSync(file, OPEN_FILE);
  }
  symlinkSync(victim, at.link);
  return at;
}

function watch(server: Server, calls: string[], name: string): void {
  server.on('connection', (connection) => {
    calls.push(name);
    connection.destroy();
  });
}

function started(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', resolve);
    listen();
  });
}

async function listenTcp(servers: Server[], calls: string[]): Promise<number> {
  const server = createServer();
  watch(server, calls, 'TCP');
  await started(server, () => server.listen(0, '127.0.0.1'));
  servers.push(server);
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function listenPath(servers: Server[], calls: string[], name: string): Promise<void> {
  const server = createServer();
  watch(server, calls, name.startsWith('\0') ? 'abstract socket' : 'socket file');
  await started(server, () =>
    server.listen(
      name.startsWith('\0') ? { path: name } : { path: name, writableAll: true, readableAll: true },
    ),
  );
  servers.push(server);
}

async function listenUdp(udp: DatagramSocket, calls: string[]): Promise<number> {
  udp.on('message', () => calls.push('UDP'));
  await new Promise<void>((resolve, reject) => {
    udp.once('error', reject);
    udp.bind(0, '127.0.0.1', resolve);
  });
  return udp.address().port;
}

function listing(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Names, kinds, modes, owners, times and contents below a folder. */
function fingerprint(root: string): string {
  const entries = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  return entries
    .map((name) => {
      const file = path.join(root, name);
      const s = statSync(file, { bigint: true });
      const content = s.isFile() ? readFileSync(file, 'latin1') : '';
      return `${name} ${s.mode} ${s.uid} ${s.nlink} ${s.mtimeNs} ${s.ctimeNs} ${content}`;
    })
    .join('\n');
}
