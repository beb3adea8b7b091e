/** Announces the coordinator of a home on the local network, unless it can only be reached from its own machine. */
import { announce, discoveryId, type Announced } from '@minikeep/discovery';
import { isAnyAddress, isLoopback, keyPin, parseAddress } from '@minikeep/protocol/rpc';
import { FILES, readSettings, requireKeyFile, type NodeSettings } from '@minikeep/state';

export function announceHome(
  folder: string,
  settings: NodeSettings,
  onWarning: (message: string) => void,
): Announced | undefined {
  // Ports that the kernel chose are in the settings once the coordinator listens.
  const serves = readSettings(folder)?.serves ?? settings.serves;
  if (serves === undefined) return undefined;
  const { host, port = 0 } = parseAddress(serves.listen);
  const enrolmentPort = parseAddress(serves.enrolment_listen).port ?? 0;
  if (isLoopback(host) || port === 0 || enrolmentPort === 0) return undefined;
  const id = discoveryId(keyPin(requireKeyFile(folder, FILES.authority)));
  return announce({
    id,
    port,
    enrolmentPort,
    ...(isAnyAddress(host) ? {} : { only: host }),
    onWarning,
  });
}
