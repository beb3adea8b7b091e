/** A cluster that can be asked, whether it is thrown away afterwards or stays. */
import type { OperatorServiceClient } from '@minikeep/protocol/v1';

export interface Session {
  readonly operator: OperatorServiceClient;
}
