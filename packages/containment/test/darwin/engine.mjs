// Stands where an engine stands: says who it is, then lives on, deaf to the end of its input.
import { readSync, writeSync } from 'node:fs';
const what = {
  pid: process.pid,
  env: process.env,
  argv: process.argv.slice(2),
  exec: process.execArgv,
};
writeSync(1, `${JSON.stringify(what)}\n`);
if (process.argv[2] === 'leave') {
  readSync(0, Buffer.alloc(1));
  process.exit(3);
}
setInterval(() => undefined, 1000);
