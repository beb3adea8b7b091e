/**
 * What was found out about a machine, without any judgement: findings.ts judges. Undefined is "could not be read", never
 * "no"; why it could not be read stands in `unread`.
 */

export type LinkKind = 'ethernet' | 'wifi' | 'thunderbolt' | 'other';

export interface LinkFacts {
  readonly name: string;
  readonly kind: LinkKind;
  readonly active: boolean;
  readonly megabits_per_second?: number | undefined;
}

export interface PowerFacts {
  /** Minutes without use until the machine sleeps; 0: never. */
  readonly sleep_minutes?: number | undefined;
  readonly disk_sleep_minutes?: number | undefined;
  /** Starts again by itself after a power cut. */
  readonly restarts?: boolean | undefined;
  readonly wakes_for_network?: boolean | undefined;
}

/** What only one system has. */
export interface SystemFacts {
  /** "15.3.1" on macOS, the kernel's release on Linux. */
  readonly version: string;
  readonly chip?: string | undefined;
  /** MiB; 0: the system's default. macOS only. */
  readonly wired_limit_mebibytes?: number | undefined;
  readonly clock_synchronized?: boolean | undefined;
  readonly links: readonly LinkFacts[];
  /** The link that the default route takes. */
  readonly default_link?: string | undefined;
  readonly power?: PowerFacts | undefined;
  readonly filevault?: boolean | undefined;
  readonly firewall?: boolean | undefined;
  /** Files of ours that carry com.apple.quarantine. */
  readonly quarantined: readonly string[];
  readonly on_battery?: boolean | undefined;
  /** What could not be read, and why. */
  readonly unread: readonly string[];
}

export interface DeviceFacts {
  readonly name: string;
  readonly description: string;
  readonly kind: string;
  readonly memory_bytes: number;
}

/** An engine that was started in its sandbox, with the embedded model. */
export type EngineFacts =
  | {
      readonly started: true;
      readonly llama_version: string;
      readonly backends: readonly string[];
      readonly devices: readonly DeviceFacts[];
      /** Attempts refused before the sandbox was closed: what the system's own libraries ask for. */
      readonly denials: readonly string[];
    }
  | { readonly started: false; readonly why: string; readonly next: string };

export type ModelCheckFacts =
  | { readonly status: 'exact'; readonly backend: string }
  | { readonly status: 'differs'; readonly by: number; readonly backend: string }
  | { readonly status: 'not_run'; readonly why: string };

export interface MachineFacts {
  readonly platform: string;
  readonly minikeep_version: string;
  readonly node_version: string;
  readonly node_pinned: string;
  readonly is_root: boolean;
  /** Started by launchd or systemd. */
  readonly is_service: boolean;
  readonly now_seconds: number;
  readonly memory_bytes: number;
  readonly memory_available_bytes: number;
  readonly installation: {
    readonly folder: string;
    /** From a bundle: its files were compared with SHA256SUMS. */
    readonly bundled: boolean;
    readonly damaged: readonly string[];
  };
  readonly disks: readonly {
    readonly what: string;
    readonly path: string;
    readonly free_bytes: number;
  }[];
  readonly ports: readonly { readonly port: number; readonly free: boolean }[];
  readonly system: SystemFacts;
  readonly sandbox: {
    readonly ok: boolean;
    readonly mechanism: string;
    readonly missing: readonly { readonly what: string; readonly next: string }[];
  };
  readonly engine: EngineFacts;
  readonly model_check: ModelCheckFacts;
}
