/**
 * What to ask for next: more memory after running out of it, less where there is no room. Pure.
 */
import { MIB, parseCpu, parseMemory } from './quantities';
import { ICapacity, IOffer, IResources, IShare } from './request';
import {
  cpuLimits,
  ILimits,
  IResourceValue,
  isAllowed,
  memoryLimits,
  sameValue,
  toValue
} from './resources';

/** Refusals for which there would be room, were less asked for. */
const TOO_MUCH: readonly string[] = ['QuotaFull', 'NoNodeFits', 'Unschedulable'];

/** Whether less might be had where this was the reason of a refusal. */
export function isTooMuch(reason: string): boolean {
  return TOO_MUCH.includes(reason);
}

/** What of a resource is free, in base units; infinite where nobody has set a limit. */
function freeOf(
  share: IShare | undefined,
  parse: (text: string) => number | null
): number {
  return share && share.free !== null ? (parse(share.free) ?? 0) : Infinity;
}

/** The most that is offered and not above `most`; null where nothing is. */
function greatestUpTo(most: number, range: ILimits): number | null {
  if (range.choices.length) {
    const possible = range.choices.filter(one => one <= most);
    return possible.length ? Math.max(...possible) : null;
  }
  return most < range.minimum ? null : Math.min(most, range.maximum);
}

/**
 * Bytes to raise a kernel to that ran out of memory: twice what it had, as far as that is offered
 * and free. Null where no more can be had.
 */
export function raisedMemory(
  resources: IResources,
  offer: IOffer,
  capacity: ICapacity | null
): number | null {
  const { memory } = toValue(resources);
  const range = memoryLimits(offer);
  const room = memory + freeOf(capacity?.memory, parseMemory);
  const wanted = range.choices.length
    ? Math.min(...range.choices.filter(one => one >= 2 * memory), range.maximum)
    : 2 * memory;
  const most = Math.min(wanted, room);
  const whole = isAllowed(most, range) ? most : Math.floor(most / MIB) * MIB;
  const raised = greatestUpTo(whole, range);
  return raised !== null && raised > memory ? raised : null;
}

/** The most of what was asked for that is free now; null where that is nothing, or all of it. */
export function fitted(
  value: IResourceValue,
  offer: IOffer,
  capacity: ICapacity | null
): IResourceValue | null {
  if (!capacity) {
    return null;
  }
  const freeMemory = freeOf(capacity.memory, parseMemory);
  const cpu = greatestUpTo(
    Math.min(value.cpu, freeOf(capacity.cpu, parseCpu)),
    cpuLimits(offer)
  );
  const memory = greatestUpTo(
    value.memory <= freeMemory ? value.memory : Math.floor(freeMemory / MIB) * MIB,
    memoryLimits(offer)
  );
  if (cpu === null || memory === null) {
    return null;
  }
  const { gpu } = value;
  const gpus = capacity.gpus.find(one => one.kind === gpu?.kind);
  const left = gpus ? Math.max(0, gpus.total - gpus.used) : Infinity;
  const fits = {
    cpu,
    memory,
    gpu: gpu && left < gpu.count ? (left ? { ...gpu, count: left } : null) : gpu
  };
  return sameValue(fits, value) ? null : fits;
}
