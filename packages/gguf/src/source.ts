/** Where the reader gets bytes from: a file on disk, or memory in tests. */
import { open, type FileHandle } from 'node:fs/promises';
import { constants } from 'node:fs';
import { ioFault, notAFile } from './faults.ts';
import type { ModelFile } from './types.ts';

export interface ByteSource {
  readonly path: string;
  readonly sizeBytes: number;
  /** Fills `target` from `offset`; resolves to the bytes got, fewer than asked only at the end. */
  read(offset: number, target: Uint8Array): Promise<number>;
}

/** An open model file. Not following up later with a path look-up means that what was checked is what is read. */
export class FileSource implements ByteSource {
  readonly path: string;
  readonly sizeBytes: number;
  readonly modifiedNs: bigint;
  readonly #handle: FileHandle;

  private constructor(path: string, sizeBytes: number, modifiedNs: bigint, handle: FileHandle) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.modifiedNs = modifiedNs;
    this.#handle = handle;
  }

  /** Opens a regular file; throws `gguf.not_found`, `.permission`, `.not_a_file` or `.read_failed`. */
  static async open(path: string): Promise<FileSource> {
    let handle: FileHandle | undefined;
    try {
      // Not blocking: a named pipe without a writer would hold us forever.
      handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const stat = await handle.stat({ bigint: true });
      if (stat.isDirectory()) throw notAFile(path, 'a folder');
      if (!stat.isFile()) throw notAFile(path, 'not a regular file');
      return new FileSource(path, Number(stat.size), stat.mtimeNs, handle);
    } catch (thrown) {
      await handle?.close();
      throw ioFault(thrown, path);
    }
  }

  get file(): ModelFile {
    return { path: this.path, sizeBytes: this.sizeBytes, modifiedNs: this.modifiedNs };
  }

  async read(offset: number, target: Uint8Array): Promise<number> {
    let got = 0;
    try {
      while (got < target.byteLength) {
        const { bytesRead } = await this.#handle.read(
          target,
          got,
          target.byteLength - got,
          offset + got,
        );
        if (bytesRead === 0) break;
        got += bytesRead;
      }
    } catch (thrown) {
      throw ioFault(thrown, this.path);
    }
    return got;
  }

  /** Size and time of change now; a file may be written to while it is open. */
  async stat(): Promise<{ sizeBytes: number; modifiedNs: bigint }> {
    const stat = await this.#handle.stat({ bigint: true });
    return { sizeBytes: Number(stat.size), modifiedNs: stat.mtimeNs };
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

export class MemorySource implements ByteSource {
  readonly path: string;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, path = 'memory') {
    this.#bytes = bytes;
    this.path = path;
  }

  get sizeBytes(): number {
    return this.#bytes.byteLength;
  }

  read(offset: number, target: Uint8Array): Promise<number> {
    const part = this.#bytes.subarray(offset, offset + target.byteLength);
    target.set(part);
    return Promise.resolve(part.byteLength);
  }
}
