/**
 * The native files of every platform, each with its SHA-256, from the packages that the lockfile pins. Carried inside
 * the program, so that a bundle can be made and checked where neither the lockfile nor the network is.
 */
import { MinikeepError, EXIT } from '@minikeep/protocol';
import pins from './pins.json' with { type: 'json' };

export const PLATFORMS = ['darwin-arm64', 'linux-x64'] as const;
export type Platform = (typeof PLATFORMS)[number];

/** A package of the registry; `integrity` is what the lockfile says about its archive (`sha512-…`, base64). */
export interface PinnedPackage {
  readonly name: string;
  readonly version: string;
  readonly integrity: string;
  readonly licence: string;
}

/** A file of a package: `from` inside the package, `path` inside the bundle. */
export interface PinnedFile {
  readonly path: string;
  readonly package: string;
  readonly from: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface PlatformPins {
  readonly packages: readonly PinnedPackage[];
  readonly files: readonly PinnedFile[];
}

export function pinsOf(platform: Platform): PlatformPins {
  return pins[platform];
}

/** The platform that this process runs on, or undefined where minikeep does not run. */
export function thisPlatform(): Platform | undefined {
  return PLATFORMS.find((platform) => platform === `${process.platform}-${process.arch}`);
}

/** Throws `usage.platform`. */
export function asPlatform(text: string): Platform {
  const found = PLATFORMS.find((platform) => platform === text);
  if (found !== undefined) return found;
  throw new MinikeepError('usage.platform', `there is no bundle for "${text}"`, {
    next: `Give one of: ${PLATFORMS.join(', ')}`,
    exitCode: EXIT.usage,
  });
}

/** Of the Node that runs minikeep on this platform; empty where it does not run. */
export function pinnedNodeVersion(): string {
  const platform = thisPlatform();
  return platform === undefined ? '' : (pinsOf(platform).packages[0]?.version ?? '');
}
