/** What a process says of its own guard, as it travels. */
import { type ConnectList, ConnectListState } from '@minikeep/protocol/v1';
import type { Guarding } from './client.ts';

const WHY_LENGTH_MAX = 300;

export function connectListMessage(guarding: Guarding): ConnectList {
  switch (guarding.state) {
    case 'on':
      return { state: ConnectListState.CONNECT_LIST_STATE_ENFORCED, why: '' };
    case 'missing':
      return {
        state: ConnectListState.CONNECT_LIST_STATE_MISSING,
        why: guarding.why.slice(0, WHY_LENGTH_MAX),
      };
    case 'off':
      return { state: ConnectListState.CONNECT_LIST_STATE_OFF, why: '' };
  }
}
