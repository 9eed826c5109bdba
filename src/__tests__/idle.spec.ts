import { foretellEnd } from '../idle';
import { makeKernel } from './fakes';

describe('foretellEnd', () => {
  const kernel = makeKernel({ created: 100, last_activity: 1000 });

  it('counts from the last activity, or from when the user asked to keep it', () => {
    const policy = { cull_after: 600 };
    expect(foretellEnd(kernel, policy, 1100)).toEqual({ cause: 'idle', left: 500 });
    expect(foretellEnd(kernel, policy, 1100, 1050)).toMatchObject({ left: 550 });
    expect(foretellEnd(kernel, policy, 9999)).toMatchObject({ left: 0 });
  });

  it('takes the earlier of idle end and greatest age', () => {
    const policy = { cull_after: 600, max_age: 1100 };
    expect(foretellEnd(kernel, policy, 1100)).toEqual({ cause: 'age', left: 100 });
  });

  it('says nothing of a busy kernel, an unknown one, or without a policy', () => {
    const policy = { cull_after: 600, max_age: 0 };
    const busy = makeKernel({ ...kernel, execution_state: 'busy' });
    const unknown = makeKernel({ ...kernel, last_activity: null });
    expect(foretellEnd(busy, policy, 1100)).toBeNull();
    expect(foretellEnd(unknown, policy, 1100)).toBeNull();
    expect(foretellEnd(kernel, undefined, 1100)).toBeNull();
  });
});
