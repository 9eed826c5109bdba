/**
 * Resources as the form holds them: numbers, checked against what a template offers.
 */
import {
  formatCpu,
  formatMemory,
  parseCpu,
  parseMemory,
  showCores,
  showMemory
} from './quantities';
import { ICapacity, IGpu, IOffer, IRange, IResources, IResourceWish } from './request';

/** Resources in base units: millicores, bytes, whole GPUs. */
export interface IResourceValue {
  cpu: number;
  memory: number;
  gpu: IGpu | null;
}

/** A range in base units. `choices`, where there are some, are all that may be had. */
export interface ILimits {
  minimum: number;
  default: number;
  maximum: number;
  choices: number[];
}

function limits(range: IRange, parse: (text: string) => number | null): ILimits {
  const read = (text: string): number => parse(text) ?? 0;
  return {
    minimum: read(range.minimum),
    default: read(range.default),
    maximum: read(range.maximum),
    choices: range.choices.map(read)
  };
}

export function cpuLimits(offer: IOffer): ILimits {
  return limits(offer.cpu, parseCpu);
}

export function memoryLimits(offer: IOffer): ILimits {
  return limits(offer.memory, parseMemory);
}

/** Whether a value is one that the limits allow. */
export function isAllowed(value: number, range: ILimits): boolean {
  return range.choices.length
    ? range.choices.includes(value)
    : value >= range.minimum && value <= range.maximum;
}

/** Whether anything of a range can be chosen at all. */
export function isFixed(range: ILimits): boolean {
  return range.choices.length
    ? range.choices.length === 1
    : range.minimum === range.maximum;
}

/** What a template gives to a kernel that asks for nothing. */
export function defaults(offer: IOffer): IResourceValue {
  const { kinds, default: count } = offer.gpu;
  return {
    cpu: cpuLimits(offer).default,
    memory: memoryLimits(offer).default,
    gpu: count && kinds.length ? { kind: kinds[0], count } : null
  };
}

/** What was asked for before, as far as it is still offered; null where it is not. */
export function rememberedValue(
  offer: IOffer,
  wish: IResourceWish | null
): IResourceValue | null {
  if (!wish) {
    return null;
  }
  const usual = defaults(offer);
  const cpu = wish.cpu ? (parseCpu(wish.cpu) ?? 0) : usual.cpu;
  const memory = wish.memory ? (parseMemory(wish.memory) ?? 0) : usual.memory;
  const gpu = wish.gpu?.count ? wish.gpu : null;
  const { kinds, maximum } = offer.gpu;
  return isAllowed(cpu, cpuLimits(offer)) &&
    isAllowed(memory, memoryLimits(offer)) &&
    (!gpu || (kinds.includes(gpu.kind) && gpu.count <= maximum))
    ? { cpu, memory, gpu }
    : null;
}

/** Resources of REST or metadata as numbers. */
export function toValue(resources: IResources): IResourceValue {
  return {
    cpu: parseCpu(resources.cpu) ?? 0,
    memory: parseMemory(resources.memory) ?? 0,
    gpu: resources.gpu?.count ? resources.gpu : null
  };
}

function sameGpu(a: IGpu | null, b: IGpu | null): boolean {
  return (a?.count ?? 0) === (b?.count ?? 0) && (!a || !b || a.kind === b.kind);
}

export function sameValue(a: IResourceValue, b: IResourceValue): boolean {
  return a.cpu === b.cpu && a.memory === b.memory && sameGpu(a.gpu, b.gpu);
}

/**
 * Values as REST wants them; with `base`, only what differs from it, so that a resize asks for
 * nothing that was not touched.
 */
export function toWish(value: IResourceValue, base?: IResourceValue): IResourceWish {
  const wish: IResourceWish = {};
  if (!base || value.cpu !== base.cpu) {
    wish.cpu = formatCpu(value.cpu);
  }
  if (!base || value.memory !== base.memory) {
    wish.memory = formatMemory(value.memory);
  }
  if (base ? !sameGpu(value.gpu, base.gpu) : value.gpu) {
    wish.gpu = value.gpu;
  }
  return wish;
}

/** Cores of the machine, where kernels together may have more CPU than it has; else null. */
export function sharedCores(capacity: ICapacity | null | undefined): number | null {
  const cores = capacity?.cpu.cores ? parseCpu(capacity.cpu.cores) : null;
  return cores ? cores / 1000 : null;
}

/** "2 CPU · 4 GiB", and GPUs where there are some. */
export function showValue(value: IResourceValue): string {
  const parts = [`${showCores(value.cpu)} CPU`, showMemory(value.memory)];
  if (value.gpu) {
    parts.push(`${value.gpu.count} × ${value.gpu.kind}`);
  }
  return parts.join(' · ');
}

/** The same of resources as REST has them. */
export function showResources(resources: IResources): string {
  return showValue(toValue(resources));
}

/** What was asked for, as far as it was said: "2 CPU · 4 GiB". */
export function showWish(wish: IResourceWish): string {
  const cpu = wish.cpu ? parseCpu(wish.cpu) : null;
  const memory = wish.memory ? parseMemory(wish.memory) : null;
  return [
    cpu === null ? '' : `${showCores(cpu)} CPU`,
    memory === null ? '' : showMemory(memory),
    wish.gpu?.count ? `${wish.gpu.count} × ${wish.gpu.kind}` : ''
  ]
    .filter(Boolean)
    .join(' · ');
}
