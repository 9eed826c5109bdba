import { IUsage } from '../request';
import { ISample, KEPT, sampleOf, withSample } from '../samples';

function makeUsage(changes: Partial<IUsage> = {}): IUsage {
  return { time: 10, cpu: 1, cpu_limit: 1, memory: 5, memory_limit: 9, ...changes };
}

describe('sampleOf', () => {
  it('finds throttling by how much of the time code had to wait', () => {
    const before = makeUsage({ throttled_seconds: 2 });
    const after = (throttled: number): boolean =>
      sampleOf(before, makeUsage({ time: 20, throttled_seconds: throttled }))
        .isThrottled;
    expect([after(2), after(2.1), after(5)]).toEqual([false, false, true]);
  });

  it('is not deceived by the counters of another pod, nor by the first reading', () => {
    const old = makeUsage({ throttled_seconds: 90, oom_kills: 3 });
    const fresh = makeUsage({ time: 11, throttled_seconds: 0, oom_kills: 0 });
    expect(sampleOf(old, fresh)).toMatchObject({
      isThrottled: false,
      isOutOfMemory: false
    });
    expect(sampleOf(null, old).isOutOfMemory).toBe(false);
  });

  it('marks a kernel that ran out of memory, whoever noticed it', () => {
    const kills = (count: number): IUsage => makeUsage({ oom_kills: count });
    expect(sampleOf(kills(0), kills(1)).isOutOfMemory).toBe(true);
    expect(sampleOf(kills(0), kills(0), true).isOutOfMemory).toBe(true);
  });
});

it('keeps the last samples only', () => {
  let history: ISample[] = [];
  for (let time = 0; time < KEPT + 5; time++) {
    history = withSample(history, sampleOf(null, makeUsage({ time })));
  }
  expect(history).toHaveLength(KEPT);
  expect(history[KEPT - 1].time).toBe(KEPT + 4);
});
