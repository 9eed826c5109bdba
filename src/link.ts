/**
 * Links that ask for a kernel: `?elastic=TEMPLATE&elastic-cpu=2&elastic-memory=4Gi&elastic-gpu=2:KIND`.
 * Whoever follows one sees the start form filled in; nothing starts before they press Start. Pure.
 */
import { IGpu, IResources, IResourceWish } from './request';

const PREFIX = 'elastic';
const FIELDS = [PREFIX, `${PREFIX}-cpu`, `${PREFIX}-memory`, `${PREFIX}-gpu`] as const;

const NO_GPU = '0';

/** What a link asks for; of what is left out, what the template gives by itself. */
export interface IAsked {
  template: string;
  resources: IResourceWish;
}

/** What the query of a URL asks for; null where it does not. */
export function readLink(query: string): IAsked | null {
  const [template, cpu, memory, gpu] = FIELDS.map(name =>
    new URLSearchParams(query).get(name)
  );
  if (!template) {
    return null;
  }
  const resources: IResourceWish = {};
  if (cpu) {
    resources.cpu = cpu;
  }
  if (memory) {
    resources.memory = memory;
  }
  const wanted = gpu ? readGpu(gpu) : undefined;
  if (wanted !== undefined) {
    resources.gpu = wanted;
  }
  return { template, resources };
}

/** The URL, asking for what a kernel has. */
export function writeLink(
  url: string,
  kernel: { template: string; resources: IResources }
): string {
  const link = new URL(withoutLink(url));
  const { cpu, memory, gpu } = kernel.resources;
  link.searchParams.set(PREFIX, kernel.template);
  link.searchParams.set(`${PREFIX}-cpu`, cpu);
  link.searchParams.set(`${PREFIX}-memory`, memory);
  link.searchParams.set(
    `${PREFIX}-gpu`,
    gpu?.count ? `${gpu.count}:${gpu.kind}` : NO_GPU
  );
  return link.href;
}

/** The URL, asking for nothing. */
export function withoutLink(url: string): string {
  const link = new URL(url);
  FIELDS.forEach(name => link.searchParams.delete(name));
  return link.href;
}

/** "2:KIND", or "0" for none; undefined where it is neither. */
function readGpu(text: string): IGpu | null | undefined {
  if (text === NO_GPU) {
    return null;
  }
  const [, count, kind] = /^(\d+):(.+)$/.exec(text) ?? [];
  return Number(count) > 0 && kind ? { kind, count: Number(count) } : undefined;
}
