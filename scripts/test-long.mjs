// npm run test:long: the same tests with the counts of the design instead of those that fit into CI.
process.env['MINIKEEP_LONG'] = '1';
await import('./test.mjs');
