// What to type next is copied into a shell: a folder's name is one word there, whatever is in it.
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { homeHint, typedPath } from '../src/home-folder.ts';

it.each(['/srv/a-b_c.d/1', '/tmp/B\u00fcro eins/a', "/tmp/it's $HOME `x` *", '/tmp/a"b\\c;d'])(
  '%s is one word for a shell',
  (file) => {
    const said = execFileSync('sh', ['-c', `printf '%s\\n' ${typedPath(file)}`], {
      encoding: 'utf8',
    });
    expect(said).toBe(`${file}\n`);
    expect(homeHint({ home: file })).toBe(` --home ${typedPath(file)}`);
  },
);

it('is left as it is where that is the same', () => {
  expect(typedPath('/var/lib/minikeep')).toBe('/var/lib/minikeep');
});
