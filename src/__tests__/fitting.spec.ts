import { fitted, raisedMemory } from '../fitting';
import { ICapacity, IOffer } from '../request';
import { toValue } from '../resources';

const GIB = 2 ** 30;

function makeCapacity(memory: string | null, cpu: string | null = null): ICapacity {
  return {
    cpu: { total: cpu && '8', used: '1', free: cpu },
    memory: { total: memory && '9Gi', used: '1Gi', free: memory },
    gpus: [{ kind: 'a100', total: 4, used: 3 }]
  };
}

const offer: IOffer = {
  cpu: { minimum: '500m', default: '1', maximum: '4', choices: [] },
  memory: { minimum: '512Mi', default: '1Gi', maximum: '8Gi', choices: [] },
  gpu: { kinds: ['a100'], default: 0, maximum: 4 }
};
const chosen: IOffer = {
  ...offer,
  memory: { ...offer.memory, choices: ['1Gi', '3Gi', '8Gi'] }
};

describe('raisedMemory', () => {
  const raise = (memory: string, free: string | null, from = offer): number | null => {
    const bytes = raisedMemory({ cpu: '1', memory }, from, makeCapacity(free));
    return bytes && bytes / GIB;
  };

  it('doubles, as far as that is offered and free beside what the kernel has', () => {
    expect(raise('1Gi', null)).toBe(2);
    expect(raise('5Gi', null)).toBe(8);
    expect(raise('2Gi', '1Gi')).toBe(3);
  });

  it('takes one of the choices', () => {
    expect(raise('1Gi', null, chosen)).toBe(3);
    expect(raise('3Gi', null, chosen)).toBe(8);
    expect(raise('3Gi', '2Gi', chosen)).toBeNull();
  });

  it('promises nothing where no more can be had', () => {
    expect(raise('8Gi', null)).toBeNull();
    expect(raise('2Gi', '0')).toBeNull();
  });
});

describe('fitted', () => {
  const value = toValue({ cpu: '4', memory: '4Gi', gpu: { kind: 'a100', count: 2 } });

  it('is the most that is free of what was asked for', () => {
    expect(fitted(value, offer, makeCapacity('2Gi', '3'))).toEqual({
      cpu: 3000,
      memory: 2 * GIB,
      gpu: { kind: 'a100', count: 1 }
    });
    expect(fitted(value, chosen, makeCapacity('2Gi'))?.memory).toBe(GIB);
  });

  it('is nothing where the least does not fit, or all does', () => {
    expect(fitted(value, offer, makeCapacity('100Mi'))).toBeNull();
    expect(fitted({ ...value, gpu: null }, offer, makeCapacity('9Gi'))).toBeNull();
    expect(fitted(value, offer, null)).toBeNull();
  });
});
