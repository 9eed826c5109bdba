import {
  cpuSteps,
  formatCpu,
  formatMemory,
  GIB,
  memorySteps,
  MIB,
  nearestStep,
  parseCpu,
  parseMemory,
  readCpu,
  readMemory,
  showCores,
  showMemory,
  showUsed
} from '../quantities';

describe('parseCpu', () => {
  it.each([
    ['2', 2000],
    ['500m', 500],
    ['1.5', 1500],
    ['0.1', 100],
    ['1.1', 1100],
    ['0.0001', 1],
    ['2e1', 20000]
  ])('reads %s as %d millicores', (text, millicores) => {
    expect(parseCpu(text)).toBe(millicores);
  });

  it.each(['', 'two', '-1', '0', 'NaN', 'Infinity', '1 2', '1e99', '--', '1X', '1ki'])(
    'refuses %p',
    text => {
      expect(parseCpu(text)).toBeNull();
    }
  );
});

describe('parseMemory', () => {
  it.each([
    ['512Mi', 512 * MIB],
    ['1.5Gi', 1.5 * GIB],
    ['2G', 2e9],
    ['1k', 1000],
    ['1048576', MIB],
    ['1e3', 1000]
  ])('reads %s as %d bytes', (text, bytes) => {
    expect(parseMemory(text)).toBe(bytes);
  });

  it.each(['-1Gi', '0', '4 GiB!', 'Gi', '1e30', '9'.repeat(40)])('refuses %p', text => {
    expect(parseMemory(text)).toBeNull();
  });
});

describe('what people type', () => {
  it.each([
    ['2', 2 * GIB],
    ['0.5', 512 * MIB],
    ['0,5', 512 * MIB],
    ['2 GiB', 2 * GIB],
    ['2gb', 2 * GIB],
    ['512m', 512 * MIB],
    ['512 MB', 512 * MIB],
    ['512Mi', 512 * MIB]
  ])('reads memory %p', (text, bytes) => {
    expect(readMemory(text)).toBe(bytes);
  });

  it.each([
    ['2', 2000],
    ['2 CPU', 2000],
    ['1.5 cores', 1500],
    ['250m', 250]
  ])('reads CPU %p', (text, millicores) => {
    expect(readCpu(text)).toBe(millicores);
  });

  it('refuses words', () => {
    expect(readMemory('lots')).toBeNull();
    expect(readCpu('cores')).toBeNull();
  });
});

describe('format and show', () => {
  it('writes what parse reads back exactly', () => {
    for (const millicores of [1, 100, 1500, 2000, 96000]) {
      expect(parseCpu(formatCpu(millicores))).toBe(millicores);
    }
    for (const bytes of [1, 1000, 1536 * MIB, 2 * GIB, 5 * 2 ** 40, 123456789]) {
      expect(parseMemory(formatMemory(bytes))).toBe(bytes);
    }
    expect(formatCpu(1500)).toBe('1500m');
    expect(formatMemory(1.5 * GIB)).toBe('1536Mi');
  });

  it('rounds for people', () => {
    expect(showCores(2000)).toBe('2');
    expect(showCores(250)).toBe('0.25');
    expect(showCores(10000)).toBe('10');
    expect(showMemory(512 * MIB)).toBe('512 MiB');
    expect(showMemory(1.5 * GIB)).toBe('1.5 GiB');
    expect(showMemory(100 * GIB)).toBe('100 GiB');
    expect(showMemory(2048 * GIB)).toBe('2 TiB');
    expect(showUsed(0)).toBe('< 1 MiB');
    expect(showUsed(MIB)).toBe('1 MiB');
  });

  it('reads back what the field itself shows', () => {
    for (const bytes of memorySteps(128 * MIB, 64 * GIB)) {
      expect(readMemory(showMemory(bytes))).toBe(bytes);
    }
    for (const millicores of cpuSteps(100, 64000)) {
      expect(readCpu(showCores(millicores))).toBe(millicores);
    }
  });
});

describe('steps', () => {
  it('stay inside the range and hold both ends and the default', () => {
    const steps = memorySteps(200 * MIB, 5.1 * GIB, 700 * MIB);
    expect(steps[0]).toBe(200 * MIB);
    expect(steps[steps.length - 1]).toBe(5.1 * GIB);
    expect(steps).toContain(700 * MIB);
    expect([...steps].sort((a, b) => a - b)).toEqual(steps);
    expect(new Set(steps).size).toBe(steps.length);
  });

  it('grow with the value, so that a wide range has few', () => {
    const steps = memorySteps(128 * MIB, 512 * GIB);
    expect(steps.length).toBeLessThan(60);
    expect(cpuSteps(100, 128000).length).toBeLessThan(40);
  });

  it('find the nearest for a value between', () => {
    expect(nearestStep([1, 2, 4, 8], 5)).toBe(2);
    expect(nearestStep([1, 2, 4, 8], 100)).toBe(3);
    expect(nearestStep([7], 1)).toBe(0);
  });
});
