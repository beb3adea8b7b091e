/** nftables by its own program, from a fixed place, with nothing of our environment. */
import { NFT_REMOVE, TABLE, nftDigest, nftDropped, nftRules } from '@minikeep/containment/firewall';
import { MinikeepError } from '@minikeep/protocol';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Firewall } from './firewall.ts';

const PLACES = ['/usr/sbin/nft', '/sbin/nft'];
const RUN_MS_MAX = 10_000;
const OUTPUT_BYTES_MAX = 2 ** 23;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Throws `seal.no_nft`; what it returns, `seal.firewall`. */
export function nftFirewall(): Firewall {
  const program = PLACES.find((at) => existsSync(at));
  if (program === undefined)
    throw new MinikeepError('seal.no_nft', `nft is not installed (${PLACES.join(', ')})`, {
      next: 'Install it on every node (Debian, Ubuntu: apt install nftables).',
    });
  const run = (args: readonly string[], input = ''): Promise<Ended> =>
    new Promise((resolve) => {
      const child = execFile(
        program,
        args,
        { timeout: RUN_MS_MAX, maxBuffer: OUTPUT_BYTES_MAX, env: { LC_ALL: 'C' }, cwd: '/' },
        (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : (child.exitCode ?? -1), stdout, stderr }),
      );
      // It may end before it has read everything: how it ended says so.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
    });
  const load = async (rules: string): Promise<void> => {
    const { code, stderr } = await run(['-f', '-'], rules);
    if (code !== 0) throw failed(code, stderr);
  };
  return {
    set: (wall) => load(nftRules(wall)),
    remove: () => load(NFT_REMOVE),
    async read() {
      const { code, stdout, stderr } = await run(['-j', 'list', 'table', 'inet', TABLE]);
      if (code === 0) return { digest: nftDigest(stdout), dropped: nftDropped(stdout) };
      if (/no such file or directory/i.test(stderr)) return undefined;
      throw failed(code, stderr);
    },
  };
}

const failed = (code: number, stderr: string): MinikeepError =>
  new MinikeepError('seal.firewall', `nft ended with ${code}: ${stderr.trim().slice(0, 400)}`, {
    next: 'Try as root on that node: nft list tables. The kernel needs nf_tables.',
  });
