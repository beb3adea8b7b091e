/** The agent's answers to the coordinator (proto/minikeep/v1/agent.proto). Access is settled before any of this runs. */
import { availableParallelism, totalmem } from 'node:os';
import type { ChatMessage, TextRequest } from '@minikeep/engine';
import {
  EXIT,
  EventQueue,
  MinikeepError,
  PROTOCOL_VERSION,
  toMinikeepError,
  versionMismatch,
} from '@minikeep/protocol';
import { hostOf, peerSerialOf, type RevokedSerials } from '@minikeep/protocol/rpc';
import type {
  ConnectList,
  AgentServiceImplementation,
  HelloResponse,
  LoadResponse,
  TextRequest as TextMessage,
} from '@minikeep/protocol/v1';
import type { NodeCanary } from './canary.ts';
import type { EventHub } from './event-hub.ts';
import type { HostedDeployment } from './hosted-deployment.ts';
import type { Hosts } from './hosts.ts';
import type { NodeDoctor } from './node-doctor.ts';
import type { Links } from './links.ts';
import type { ObeyedCoordinator } from './obeyed-coordinator.ts';
import { wiredLimitBytes, type NodeSpeed } from './node-speed.ts';
import { memoryAvailableBytes } from './machine.ts';
import type { LogHeads } from './log-heads.ts';
import type { Pieces } from './prepare-slice.ts';
import type { Violations } from './violations.ts';

const TEXT_TIMEOUT_MS_MAX = 120_000;
/** Nobody watches for so long: what the coordinator allowed is no longer allowed. */
const COORDINATOR_AWAY_MS = 15_000;
const LOAD_EVENTS_MAX = 1_000;
const JSON_LENGTH_MAX = 1024 * 1024;

export interface AgentServiceOptions {
  readonly node: string;
  readonly cluster: string;
  readonly version: string;
  readonly instance: string;
  readonly obeyed: ObeyedCoordinator;
  readonly pieces: Pieces;
  readonly hub: EventHub;
  readonly violations: Violations;
  readonly heads: LogHeads | undefined;
  readonly hosts: Hosts;
  readonly links: Links;
  readonly canary: NodeCanary;
  readonly doctor: NodeDoctor;
  readonly speed: NodeSpeed;
  /** Where this agent listens; known once it does. */
  address(): string;
  /** Finding it out takes a moment: whoever greets first waits for it. */
  readonly sandbox: Promise<NonNullable<HelloResponse['sandbox']>>;
  readonly sandboxOff: boolean;
  readonly connectList: ConnectList;
  readonly machine: string;
  /** A person on this machine has to hear of it. */
  onTold?(error: MinikeepError): void;
  /** Shuts certificates out; returns how many calls that ended. */
  revoke(list: RevokedSerials): number;
}

export function agentService(options: AgentServiceOptions): AgentServiceImplementation {
  const { pieces, hub, hosts } = options;
  let watchers = 0;
  return {
    async hello(request, context) {
      if (request.protocolVersion !== PROTOCOL_VERSION) {
        const mismatch = versionMismatch(
          {
            who: 'the coordinator',
            version: request.minikeepVersion,
            protocol: request.protocolVersion,
          },
          { who: `node ${options.node}`, version: options.version, protocol: PROTOCOL_VERSION },
        );
        options.onTold?.(mismatch);
        throw mismatch;
      }
      await options.obeyed.greet(request, {
        serial: peerSerialOf(context),
        host: hostOf(context.peer),
      });
      if (request.revoked !== undefined) options.revoke(request.revoked);
      options.violations.useKey(request.violationKey);
      return {
        protocolVersion: PROTOCOL_VERSION,
        node: options.node,
        minikeepVersion: options.version,
        instance: options.instance,
        platform: `${process.platform}-${process.arch}`,
        cpuCount: availableParallelism(),
        memoryBytes: totalmem(),
        sandbox: await options.sandbox,
        sandboxOff: options.sandboxOff,
        connectList: options.connectList,
        address: options.address(),
        pid: process.pid,
        machine: options.machine,
        memoryAvailableBytes: memoryAvailableBytes(),
        modelCheck: await options.doctor.modelCheck(),
        speed: await options.speed.known(),
        wiredLimitBytes: await wiredLimitBytes(),
      };
    },

    keepHead({ head }) {
      if (head === undefined) throw noHead();
      // A throw-away cluster has no log.
      return Promise.resolve({ before: options.heads?.keep(head) });
    },

    heads: () => Promise.resolve({ heads: [...(options.heads?.all ?? [])] }),

    reveal: () => Promise.resolve({ targets: options.violations.revealed() }),

    async *watch(since, context) {
      watchers += 1;
      try {
        yield* hub.watch(context.signal, since);
      } finally {
        watchers -= 1;
        // A coordinator that was started again may watch already while the connection of the old one still ends; one
        // whose link was cut is back in a moment.
        const forget = (): void => {
          if (watchers === 0) pieces.forgetAll();
        };
        setTimeout(forget, COORDINATOR_AWAY_MS).unref();
      }
    },

    findPieces: (request) => pieces.find(request),

    prepareSlice: (request, context) => pieces.prepare(request, context),

    async allowPieces(request) {
      pieces.allow(request);
      return {};
    },

    async *load(request, context) {
      const host = await hosts.forEpoch(request.deployment, request.epoch);
      const events = new EventQueue<LoadResponse>(LOAD_EVENTS_MAX);
      let told = -1;
      const loading = host.load(
        request,
        (fraction) => {
          // A hundredth is fine enough to show.
          const hundredths = Math.floor(fraction * 100);
          if (hundredths <= told) return;
          told = hundredths;
          events.push({ event: { $case: 'progress', value: { fraction } } });
        },
        context.signal,
      );
      loading.then(
        (ready) => {
          events.push({ event: { $case: 'ready', value: ready } });
          events.end();
        },
        (error: unknown) => events.end(toMinikeepError(error)),
      );
      yield* events;
    },

    inventory: () => Promise.resolve({ parts: hosts.inventory() }),

    async connect(request, context) {
      const host = hosts.find(request.deployment);
      const { stage } = host;
      if (stage === undefined || host.epoch !== request.epoch)
        throw new MinikeepError('deployment.no_stage', `${request.deployment} has no stage here`, {
          next: 'Deploy again.',
        });
      const { downstream, downstreamAddresses } = request;
      options.links.learn(downstream, downstreamAddresses);
      const connection = {
        ...request,
        downstreamWays: () => options.links.waysTo(downstream),
        onWay: (address: string | undefined) => options.links.uses(downstream, address),
        onOver: () => options.links.over(downstream),
      };
      await stage.connect(connection, context.signal);
      return {};
    },

    async text(request) {
      const host = hosts.find(request.deployment);
      const timeoutMs = Math.min(request.timeoutMs || TEXT_TIMEOUT_MS_MAX, TEXT_TIMEOUT_MS_MAX);
      const result = await host.text(textRequest(request), timeoutMs);
      if (result.op === 'detokenize') return { tokens: [], text: result.text, warnings: [] };
      if (result.op === 'tokenize') return { tokens: [...result.tokens], text: '', warnings: [] };
      return { tokens: [...result.tokens], text: result.prompt, warnings: [...result.warnings] };
    },

    stageState: (request) => stageState(hosts.find(request.deployment)),

    async unload(request) {
      pieces.forget(request.deployment);
      await hosts.end(request.deployment, request.epoch, 'the deployment ended');
      return {};
    },

    canary: (_, context) => options.canary.run(context.signal),

    doctor: (request, context) => options.doctor.run(request.modelCheck, context.signal),

    measure: async (_, context) => ({
      speed: await options.speed.measure(hosts.inventory().length, context.signal),
    }),

    async revoke({ revoked }) {
      return { ended: revoked === undefined ? 0 : options.revoke(revoked) };
    },
  };
}

async function stageState(host: HostedDeployment) {
  const counters = host.stage?.counters();
  const engine = await host.engineState();
  return {
    epoch: host.epoch,
    framesIn: counters?.framesIn ?? 0,
    framesOut: counters?.framesOut ?? 0,
    framesSent: counters?.framesSent ?? 0,
    oldestSeconds: counters?.oldestSeconds ?? 0,
    linkBrokenSeconds: counters?.linkBrokenSeconds ?? 0,
    engineStopped: engine?.stopped ?? false,
    engineAlive: engine !== undefined,
    engineCpuSeconds: engine?.cpuSeconds ?? 0,
  };
}

function textRequest(message: TextMessage): TextRequest {
  const { work } = message;
  if (work?.$case === 'tokenize')
    return {
      op: 'tokenize',
      text: work.value.text,
      add_special: work.value.addSpecial,
      parse_special: work.value.parseSpecial,
    };
  if (work?.$case === 'detokenize')
    return { op: 'detokenize', tokens: work.value.tokens, special: work.value.special };
  if (work?.$case !== 'chat') throw tooMany('kinds of text work');
  const templateArguments = jsonObject(work.value.templateArgumentsJson);
  return {
    op: 'chat',
    messages: work.value.messages.map((m): ChatMessage => ({
      ...jsonObject(m.extraJson),
      role: m.role,
      content: m.content,
    })),
    add_generation_prompt: work.value.addGenerationPrompt,
    now_seconds: work.value.nowSeconds,
    ...(work.value.templateArgumentsJson === '' ? {} : { template_arguments: templateArguments }),
  };
}

/** A JSON object from outside, or an empty one for an empty string. Throws `generate.json_invalid`. */
function jsonObject(text: string): Record<string, unknown> {
  if (text === '') return {};
  const value: unknown = text.length > JSON_LENGTH_MAX ? undefined : parseJson(text);
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new MinikeepError('generate.json_invalid', 'a field of the request is not a JSON object', {
    next: 'Send template arguments and extra message fields as JSON objects of at most 1 MiB.',
    exitCode: EXIT.usage,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function tooMany(what: string): MinikeepError {
  return new MinikeepError('node.bad_request', `the request names too many or unknown ${what}`, {
    next: 'The coordinator runs another version: compare versions with `minikeep nodes`.',
  });
}

const noHead = (): MinikeepError =>
  new MinikeepError('node.bad_request', 'there is no end of a log in it', {
    next: 'Another version of minikeep asks: update it.',
  });
