// The process that crash.test.ts kills: makes acknowledged changes as fast as it can, and says each one after it was
// made. Run directly by Node: writer.ts HOME FIRST
import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { Home, State } from '@minikeep/state';

const [folder = '', first = '1'] = process.argv.slice(2);
writeSync(1, 'opening\n');
const home = Home.open(folder);
const state = State.open(home, () => Date.now());
writeSync(1, 'open\n');
for (let n = Number(first); ; n++) {
  state.write(({ database, event }) => {
    database
      .prepare('INSERT INTO models VALUES (?, ?, ?, ?, ?, ?)')
      .run(`m${n}`, createHash('sha256').update(String(n)).digest(), `/m/${n}`, n, 'llama', n);
    event('model.imported', { n });
    database
      .prepare('INSERT INTO deployments VALUES (?, ?, ?, ?, ?)')
      .run(`d${n}`, `m${n}`, n, 'up', JSON.stringify({ n }));
  });
  writeSync(1, `row ${n}\n`);
  // Long enough that a torn write would show: its digest is its last line.
  const body = `${n}\n${'k'.repeat(100 + (n % 7) * 4000)}\n`;
  home.writeKey('key.pem', body + createHash('sha256').update(body).digest('hex'));
  writeSync(1, `key ${n}\n`);
}
