/** Who may join, who is known again, and what strangers can't do to the log; with a real database and authority. */
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MinikeepError, identityOfSubjectAltName } from '@minikeep/protocol';
import {
  CertificateAuthority,
  certificateRequest,
  newPrivateKey,
} from '@minikeep/protocol/authority';
import { Revocations, addressesOfSubjectAltName, decodeToken } from '@minikeep/protocol/rpc';
import { Home, State, readSettings, type NodeSettings } from '@minikeep/state';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { initCluster } from '../src/membership/index.ts';
import { Members } from '../src/membership/members.ts';

let folder: string;
let home: Home;
let state: State;
let members: Members;
let nowMs: number;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'minikeep-members-'));
  nowMs = Date.now();
  const now = (): number => nowMs;
  const listen = '127.0.0.1:0';
  await initCluster(
    folder,
    {
      name: 'lab',
      node: 'mini-1',
      listen,
      enrolmentListen: listen,
      agentListen: listen,
      apiListen: listen,
      coordinatorAddresses: [],
      certificateSeconds: 86_400,
    },
    now,
  );
  home = Home.open(folder);
  state = State.open(home, now);
  const settings = readSettings(folder) as NodeSettings;
  const authority = await CertificateAuthority.load(
    settings.cluster_id,
    home.readKey('authority.pem') ?? '',
    home.readKey('authority-key.pem') ?? '',
  );
  members = new Members({
    settings,
    state,
    authority,
    revocations: new Revocations(),
    now,
    where: () => ({ hosts: ['192.168.1.20'], port: 7420, enrolmentPort: 7421 }),
    onNode: () => {},
    onRemoved: () => {},
    onOutdated: () => {},
  });
});
afterEach(() => {
  state.close();
  home.close();
  rmSync(folder, { recursive: true, force: true });
});

async function join(token: string, key: string, name = 'mini-2'): Promise<string> {
  const { id, secret } = decodeToken(token);
  const answer = await members.join({
    protocolVersion: 1,
    tokenId: id,
    tokenSecret: secret,
    name,
    nameIsFixed: false,
    certificateRequestPem: await certificateRequest(key),
    minikeepVersion: '0',
  });
  return answer.node;
}
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'it went well',
    (error: unknown) => (error instanceof MinikeepError ? error.code : String(error)),
  );
const refusals = () => state.events(1, 1_000).filter((event) => event.kind === 'join.refused');

it('strangers fill the log with so many lines a minute, and the rest is counted', async () => {
  const { token } = members.invite(60);
  const key = await newPrivateKey();
  nowMs = Math.ceil(nowMs / 60_000) * 60_000 + 1_000;
  await join(token, key);
  for (let i = 0; i < 40; i++)
    expect(await codeOf(join(token, await newPrivateKey()))).toBe('token.refused');
  expect(refusals()).toHaveLength(10);
  nowMs += 60_000;
  await codeOf(join(token, await newPrivateKey()));
  expect(refusals().at(-1)?.data).toMatchObject({ why: 'used', not_logged_before: 30 });
});

it('a node that was away past its certificate comes back under its name with a new token', async () => {
  const key = await newPrivateKey();
  expect(await join(members.invite(60).token, key)).toBe('mini-2');
  nowMs += 10 * 86_400_000;
  expect(members.facts('mini-2')?.certificateEndsAtMs).toBeLessThan(nowMs);
  expect(await join(members.invite(60).token, key, 'another-wish')).toBe('mini-2');
  expect(members.facts('mini-2')?.certificateEndsAtMs).toBeGreaterThan(nowMs);
  expect(members.nodes()).toHaveLength(2);
});

it('a removed node’s certificates are on the list until they end, and its name is free', async () => {
  const key = await newPrivateKey();
  await join(members.invite(60).token, key);
  const list = members.remove('mini-2');
  expect([list.epoch, list.serials.length]).toEqual([1, 1]);
  expect(await codeOf(Promise.resolve().then(() => members.remove('mini-2')))).toBe('node.unknown');
  expect(await join(members.invite(60).token, await newPrivateKey())).toBe('mini-2');
  nowMs += 2 * 86_400_000;
  expect(members.revoked()).toEqual({ epoch: 1, serials: [] });
});

it('a certificate names the addresses of its node, and is made anew when there are others', async () => {
  const key = await newPrivateKey();
  await join(members.invite(60).token, key);
  const renew = (hosts: string[], named: string[] = []) =>
    members.announce(
      'mini-2',
      {
        protocolVersion: 1,
        minikeepVersion: '0',
        hosts,
        port: 7422,
        instance: 'one',
        nowSeconds: nowMs / 1000,
        leaving: false,
        revocationEpoch: 0,
      },
      { host: hosts[0] ?? '', serial: 'ab12', named },
    ).renew;
  expect(renew(['127.0.0.1', '::1', 'fe80::1%eth0'])).toBe(false);
  const hosts = ['10.0.0.2', 'FD00:0::7', 'fe80::1%eth0', '127.0.0.1'];
  expect(renew(hosts)).toBe(true);
  const pem = await members.renew('mini-2', await certificateRequest(key));
  const { subjectAltName } = new X509Certificate(pem);
  expect(identityOfSubjectAltName(subjectAltName)?.name).toBe('mini-2');
  const addresses = addressesOfSubjectAltName(subjectAltName);
  expect(addresses.toSorted()).toEqual(['10.0.0.2', 'fd00::7']);
  // Its connection still shows the one before; or a coordinator that has just started sees the new one.
  expect([renew(hosts), renew(hosts, addresses)]).toEqual([false, false]);
  expect(renew([...hosts, '10.1.0.2'], addresses)).toBe(true);
});

it('two machines with one home are told apart by what their agents say', async () => {
  await join(members.invite(60).token, await newPrivateKey());
  const announce = (instance: string, revocationEpoch = 0, serial = 'ab12') =>
    members.announce(
      'mini-2',
      {
        protocolVersion: 1,
        minikeepVersion: '0',
        hosts: ['10.0.0.2'],
        port: 7422,
        instance,
        nowSeconds: nowMs / 1000,
        leaving: false,
        revocationEpoch,
      },
      { host: '10.0.0.2', serial },
    );
  announce('one');
  expect(() => announce('two')).toThrow(expect.objectContaining({ code: 'node.cloned' }));
  members.leaves('mini-2', 'one');
  announce('two');
  nowMs += 60_000;
  announce('one');
  // A certificate that only a later state of this database knew is shut out with its node as well.
  announce('one', 0, 'cd34');
  const before = members.revoked().epoch;
  expect(() => announce('one', before + 1)).toThrow(
    expect.objectContaining({ code: 'coordinator.outdated' }),
  );
  expect(members.remove('mini-2').serials).toEqual(expect.arrayContaining(['ab12', 'cd34']));
});
