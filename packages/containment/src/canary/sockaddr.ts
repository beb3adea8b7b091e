/** Socket addresses as bytes. The two platforms differ in the first two bytes and in two family numbers. */
import type { Address, CanaryPlatform } from './types.ts';

const FAMILY: Readonly<Record<CanaryPlatform, Readonly<Record<Address['family'], number>>>> = {
  linux: { unix: 1, abstract: 1, inet: 2, inet6: 10, vsock: 40 },
  darwin: { unix: 1, abstract: 1, inet: 2, inet6: 30, vsock: 40 },
};

function inet4(host: string): Buffer {
  const parts = host.split('.').map(Number);
  if (parts.length !== 4 || parts.some((n) => !Number.isInteger(n) || n < 0 || n > 255))
    throw new Error(`not an IPv4 address: ${host}`);
  return Buffer.from(parts);
}

function inet6(host: string): Buffer {
  const [left = '', right] = host.split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((g) => Number.parseInt(g, 16));
  const head = groups(left);
  const tail = right === undefined ? [] : groups(right);
  const all = [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
  if (all.length !== 8 || all.some((g) => !Number.isInteger(g) || g < 0 || g > 0xffff))
    throw new Error(`not an IPv6 address: ${host}`);
  const bytes = Buffer.alloc(16);
  all.forEach((g, i) => bytes.writeUInt16BE(g, 2 * i));
  return bytes;
}

/** A `struct sockaddr_*`, its length in bytes being that of the result. `port` is resolved by the caller. */
export function sockaddrBytes(address: Address, port: number, platform: CanaryPlatform): Buffer {
  const bytes = body(address, port);
  const family = FAMILY[platform][address.family];
  if (platform === 'darwin') {
    bytes[0] = bytes.length;
    bytes[1] = family;
  } else bytes.writeUInt16LE(family, 0);
  return bytes;
}

function body(address: Address, port: number): Buffer {
  switch (address.family) {
    case 'inet': {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt16BE(port, 2);
      inet4(address.host).copy(bytes, 4);
      return bytes;
    }
    case 'inet6': {
      const bytes = Buffer.alloc(28);
      bytes.writeUInt16BE(port, 2);
      inet6(address.host).copy(bytes, 8);
      bytes.writeUInt32LE(address.scope ?? 0, 24);
      return bytes;
    }
    case 'unix':
      return Buffer.concat([Buffer.alloc(2), Buffer.from(`${address.path}\0`)]);
    case 'abstract':
      return Buffer.concat([Buffer.alloc(3), Buffer.from(address.name)]);
    case 'vsock': {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt32LE(port, 4);
      bytes.writeUInt32LE(address.cid, 8);
      return bytes;
    }
  }
}
