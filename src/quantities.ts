/**
 * CPU and memory as written, as numbers and as shown; the steps of a slider. No IO.
 *
 * Inside, CPU is whole millicores and memory whole bytes, as in the Python package.
 */

const BINARY: { [suffix: string]: number } = {
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50
};
const DECIMAL: { [suffix: string]: number } = {
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15
};

export const MIB = BINARY.Mi;
export const GIB = BINARY.Gi;

const QUANTITY =
  /^\s*(\d{1,18}(?:[.,]\d{0,12})?|[.,]\d{1,12})\s*(m|[kKMGTP]i?|(?:[eE][+-]?\d{1,2}))?\s*$/;

function scan(text: string): { number: number; suffix: string } | null {
  const match = QUANTITY.exec(text);
  if (!match) {
    return null;
  }
  // A decimal comma is what half of the world types.
  return { number: Number(match[1].replace(',', '.')), suffix: match[2] ?? '' };
}

function scaled(number: number, suffix: string): number | null {
  if (suffix === '') {
    return number;
  }
  if (suffix === 'm') {
    return number / 1000;
  }
  if (/^[eE][+-]?\d/.test(suffix)) {
    return number * 10 ** Number(suffix.slice(1));
  }
  const unit = BINARY[suffix] ?? DECIMAL[suffix];
  return unit === undefined ? null : number * unit;
}

/** A whole number of base units, rounded up as Kubernetes does; null if out of any sense. */
function whole(value: number | null): number | null {
  if (value === null) {
    return null;
  }
  // Guard against 1.1 * 1000 = 1100.0000000000002.
  const rounded = Math.round(value);
  const result = Math.abs(value - rounded) < 1e-6 ? rounded : Math.ceil(value);
  return result >= 1 && result <= Number.MAX_SAFE_INTEGER ? result : null;
}

/** Millicores of a CPU quantity ("500m", "1.5"); null if it is none. */
export function parseCpu(text: string): number | null {
  const found = scan(text);
  if (!found) {
    return null;
  }
  const cores = scaled(found.number, found.suffix);
  return cores === null ? null : whole(cores * 1000);
}

/** Bytes of a memory quantity ("512Mi", "2G", "1048576"); null if it is none. */
export function parseMemory(text: string): number | null {
  const found = scan(text);
  return found ? whole(scaled(found.number, found.suffix)) : null;
}

/**
 * Bytes of what a person typed: as `parseMemory`, but "2 GiB", "2 GB" and "2g" are read too
 * and a bare number means GiB.
 */
export function readMemory(text: string): number | null {
  const typed = text
    .trim()
    .replace(/b$/i, '')
    .replace(/([kmgtp])i?$/i, (_, unit: string) => `${unit.toUpperCase()}i`);
  if (/^[\d.,]+$/.test(typed)) {
    const found = scan(typed);
    return found ? whole(found.number * GIB) : null;
  }
  return parseMemory(typed);
}

/** Millicores of what a person typed: "2", "0.5", "500m", "2 CPU", "2 cores". */
export function readCpu(text: string): number | null {
  return parseCpu(text.replace(/\s*(cpus?|cores?)\s*$/i, ''));
}

/** The canonical quantity: "2", "1500m". */
export function formatCpu(millicores: number): string {
  return millicores % 1000 === 0 ? String(millicores / 1000) : `${millicores}m`;
}

/** The shortest exact quantity with a binary suffix: "2Gi", "1536Mi". */
export function formatMemory(bytes: number): string {
  for (const suffix of ['Pi', 'Ti', 'Gi', 'Mi', 'Ki']) {
    if (bytes && bytes % BINARY[suffix] === 0) {
      return `${bytes / BINARY[suffix]}${suffix}`;
    }
  }
  return String(bytes);
}

function trimmed(value: number): string {
  return value.toFixed(2).replace(/\.?0+$/, '');
}

/** Cores for people: "2", "0.5", "1.25". */
export function showCores(millicores: number): string {
  return trimmed(millicores / 1000);
}

/** Memory for people, rounded: "1.5 GiB", "512 MiB". */
export function showMemory(bytes: number): string {
  if (bytes >= 1024 * GIB) {
    return `${trimmed(bytes / 1024 / GIB)} TiB`;
  }
  if (bytes >= GIB) {
    return `${trimmed(bytes / GIB)} GiB`;
  }
  return bytes >= MIB
    ? `${Math.round(bytes / MIB)} MiB`
    : `${Math.round(bytes / 1024)} KiB`;
}

/**
 * Memory in use, for people. What a kernel itself needs is left out of such figures, so that a new
 * one uses nearly nothing: "0 KiB" would look as if nothing had been measured.
 */
export function showUsed(bytes: number): string {
  return bytes < MIB ? '< 1 MiB' : showMemory(bytes);
}

const CPU_STEPS = [
  100, 250, 500, 750, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 7000, 8000,
  10000, 12000, 14000, 16000, 20000, 24000, 28000, 32000, 40000, 48000, 56000, 64000,
  80000, 96000, 112000, 128000, 160000, 192000, 256000
];

/** What a slider of CPU may stand on, in millicores: finer where a step is worth more. */
export function cpuSteps(
  minimum: number,
  maximum: number,
  ...also: number[]
): number[] {
  return clip(CPU_STEPS, minimum, maximum, also);
}

/** What a slider of memory may stand on, in bytes: evenly spaced on a logarithmic scale. */
export function memorySteps(
  minimum: number,
  maximum: number,
  ...also: number[]
): number[] {
  const steps: number[] = [];
  for (let power = MIB; power <= maximum; power *= 2) {
    const parts = power < GIB ? [1, 1.5] : [1, 1.25, 1.5, 1.75];
    steps.push(...parts.map(part => power * part));
  }
  return clip(steps, minimum, maximum, also);
}

function clip(
  steps: number[],
  minimum: number,
  maximum: number,
  also: number[]
): number[] {
  const all = new Set(
    [...steps, ...also, minimum, maximum].filter(
      step => step >= minimum && step <= maximum
    )
  );
  return [...all].sort((a, b) => a - b);
}

/** The index of the step nearest to a value that need not be one of them. */
export function nearestStep(steps: number[], value: number): number {
  let best = 0;
  steps.forEach((step, index) => {
    if (Math.abs(step - value) < Math.abs(steps[best] - value)) {
      best = index;
    }
  });
  return best;
}
