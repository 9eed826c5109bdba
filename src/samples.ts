/**
 * The recent use of a kernel as a line to draw: figures made of two readings. Pure.
 */
import { IUsage } from './request';

/** How many readings are kept of each kernel: ten minutes at one every five seconds. */
export const KEPT = 120;

/** From which part of the time on it counts that a kernel had to wait for its CPU. */
const THROTTLED = 0.05;

/** One reading, as far as it is drawn. */
export interface ISample {
  /** Seconds since the epoch. */
  time: number;
  /** Cores. */
  cpu: number | null;
  /** Bytes. */
  memory: number;
  /** Percent, the mean of its GPUs; null where it has none, or nothing is told of them. */
  gpu: number | null;
  /** Whether its code had to wait since the reading before, because of its CPU limit. */
  isThrottled: boolean;
  /** Whether it ran out of memory since the reading before. */
  isOutOfMemory: boolean;
}

/**
 * What is drawn of a reading. `hasFailed` says that it ran out of memory since `before`, as its
 * record tells where the system does not.
 */
export function sampleOf(
  before: IUsage | null,
  usage: IUsage,
  hasFailed = false
): ISample {
  const elapsed = before ? usage.time - before.time : 0;
  const waited = grown(before?.throttled_seconds, usage.throttled_seconds);
  return {
    time: usage.time,
    cpu: usage.cpu ?? null,
    memory: usage.memory,
    gpu: gpuUtilization(usage),
    isThrottled: elapsed > 0 && waited / elapsed > THROTTLED,
    isOutOfMemory: hasFailed || grown(before?.oom_kills, usage.oom_kills) > 0
  };
}

/** How busy its GPUs are on average, in percent; null where nothing is told of any. */
export function gpuUtilization(usage: IUsage): number | null {
  const gpus = usage.gpu ?? [];
  return gpus.length
    ? gpus.reduce((sum, one) => sum + one.utilization, 0) / gpus.length
    : null;
}

/** A history with one more sample, as long as may be. */
export function withSample(history: readonly ISample[], sample: ISample): ISample[] {
  return [...history.slice(1 - KEPT), sample];
}

/** By how much a counter has grown; it begins anew with every pod. */
function grown(
  before: number | null | undefined,
  now: number | null | undefined
): number {
  return typeof before === 'number' && typeof now === 'number'
    ? Math.max(0, now - before)
    : 0;
}
