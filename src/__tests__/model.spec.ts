import { IHappening, whatHappened } from '../happenings';
import { ElasticModel } from '../model';
import { ElasticProblem } from '../request';
import { FakeApi, FakeEvents, makeKernel, makeTemplate } from './fakes';

/** Let everything that is ready to run do so; no time passes. */
async function settle(): Promise<void> {
  await jest.advanceTimersByTimeAsync(0);
}

describe('ElasticModel', () => {
  let api: FakeApi;
  let events: FakeEvents;
  let model: ElasticModel;
  let happenings: string[];

  beforeEach(async () => {
    jest.useFakeTimers();
    api = new FakeApi();
    events = new FakeEvents();
    model = new ElasticModel({
      api,
      events: events.manager,
      pollInterval: 30000,
      usageInterval: 5000,
      standby: 'never'
    });
    happenings = [];
    model.happened.connect((_: ElasticModel, { kind, kernel }: IHappening) => {
      happenings.push(`${kind} ${kernel.kernel_id}`);
    });
  });

  afterEach(() => {
    model.dispose();
    jest.useRealTimers();
  });

  async function open(): Promise<void> {
    void model.open();
    await settle();
  }

  it('reads everything once it is opened', async () => {
    api.put(makeKernel());
    await open();
    expect(model.isReady).toBe(true);
    expect(model.kernel('k1')?.phase).toBe('Running');
    expect(model.template('py')?.warm).toBe(2);
    expect(model.capacity?.cpu.free).toBe('6');
    expect(model.status?.enforcement.memory).toBe('cgroup-v1');
    expect(happenings).toEqual([]);
  });

  it('says why it cannot read, and reads again later', async () => {
    api.failures.set(
      'kernels',
      new ElasticProblem({ reason: 'ServerUnreachable', message: 'No answer.' })
    );
    await open();
    expect(model.isReady).toBe(false);
    expect(model.problem?.reason).toBe('ServerUnreachable');
    await jest.advanceTimersByTimeAsync(300000);
    expect(model.isReady).toBe(true);
    expect(model.problem).toBeNull();
  });

  it('keeps the same objects as long as nothing has changed', async () => {
    api.put(makeKernel());
    await open();
    const { kernels } = model;
    api.put(makeKernel());
    void model.refresh();
    await settle();
    expect(model.kernels).toBe(kernels);
    expect(model.kernels[0]).toBe(kernels[0]);
    api.put(makeKernel({ execution_state: 'busy' }));
    void model.refresh();
    await settle();
    expect(model.kernels[0].execution_state).toBe('busy');
  });

  it('says nothing of a reading that has brought nothing new', async () => {
    api.put(makeKernel());
    await open();
    const { capacity } = model;
    let count = 0;
    model.changed.connect(() => (count += 1));
    events.sendKernel(makeKernel());
    events.sendPool();
    await jest.advanceTimersByTimeAsync(3000);
    expect(count).toBe(0);
    expect(model.capacity).toBe(capacity);
    api.offered = [makeTemplate({ warm: 1 })];
    events.sendPool();
    await jest.advanceTimersByTimeAsync(3000);
    expect(count).toBe(1);
    expect(model.capacity).toBe(capacity);
  });

  it('tells once of an idle end, of which only the events have the reason', async () => {
    const kernel = api.put(makeKernel());
    await open();
    api.store.clear();
    const end = { reason: 'Idle', message: 'It was idle for 1 hour.' };
    events.sendKernel(kernel, 'changed', end);
    events.sendKernel(kernel, 'removed', end);
    await settle();
    expect(happenings).toEqual(['ended k1']);
    expect(model.kernels).toEqual([]);
  });

  it('asks the server to keep a kernel, and knows when', async () => {
    api.put(makeKernel());
    await open();
    expect(model.keptAt('k1')).toBe(0);
    await model.keepAlive('k1');
    expect(api.count('keepAlive')).toBe(1);
    expect(model.keptAt('k1')).toBe(Date.now() / 1000);
  });

  it('remembers how long a start took, by its steps', async () => {
    await open();
    const start = await model.start({ template: 'py' });
    const id = start.kernel.kernel_id;
    const step = { name: 'kernel-up', message: '' };
    api.put(makeKernel({ kernel_id: id, created: 100, start: 'cold' }));
    api.steps.set(id, {
      phase: 'Running',
      done: true,
      steps: [
        { ...step, time: 101 },
        { ...step, time: 112 }
      ]
    });
    await start.refresh();
    await settle();
    expect(model.remembered.seconds('py', 'cold')).toBe(12);
    expect(model.remembered.seconds('py', 'warm')).toBeNull();
  });

  it('reads a kernel again when an event names it, without waiting for the poll', async () => {
    api.put(makeKernel());
    await open();
    events.sendKernel(api.put(makeKernel({ resources: { cpu: '2', memory: '2Gi' } })));
    await settle();
    expect(model.kernel('k1')?.resources.cpu).toBe('2');
    expect(api.count('kernels')).toBe(1);
  });

  it('reads pool and templates again on pool events, merging a flood', async () => {
    await open();
    const before = api.count('templates');
    api.offered = [makeTemplate({ warm: 1 })];
    for (let count = 0; count < 50; count++) {
      events.sendPool();
    }
    await jest.advanceTimersByTimeAsync(2000);
    expect(model.template('py')?.warm).toBe(1);
    expect(api.count('templates') - before).toBeLessThanOrEqual(3);
  });

  it('takes no notice of the events of others', async () => {
    await open();
    const before = api.calls.length;
    events.signal.emit({ schema_id: 'urn:somebody-else:kernel:v1', kernel_id: 'k1' });
    await jest.advanceTimersByTimeAsync(2000);
    expect(api.calls.length).toBe(before);
  });

  it('forgets a kernel that an event says is removed', async () => {
    const kernel = api.put(makeKernel());
    await open();
    api.store.delete('k1');
    events.sendKernel(kernel, 'removed');
    await settle();
    expect(model.kernel('k1')).toBeNull();
  });

  it('follows a start from its steps to Running', async () => {
    await open();
    const start = await model.start({ template: 'py' });
    expect(model.kernel('k1')?.phase).toBe('Starting');
    api.steps.set('k1', {
      phase: 'Starting',
      done: false,
      steps: [{ time: 1, name: 'claimed', message: '' }]
    });
    await jest.advanceTimersByTimeAsync(1000);
    expect(model.startOf('k1')?.steps.map(step => step.name)).toEqual(['claimed']);
    api.steps.set('k1', { phase: 'Running', done: true, steps: [] });
    events.sendKernel(api.put(makeKernel()));
    await settle();
    await expect(start.running).resolves.toMatchObject({ phase: 'Running' });
    expect(model.startOf('k1')).toBeNull();
    expect(happenings).toEqual(['starting k1', 'running k1']);
  });

  it('tells why a start failed, once', async () => {
    await open();
    const start = await model.start({ template: 'py' });
    const failed = makeKernel({
      phase: 'Failed',
      reason: 'StartFailed',
      message: 'Bad.'
    });
    api.steps.set('k1', { phase: 'Failed', done: true, steps: [] });
    events.sendKernel(api.put(failed));
    await settle();
    await expect(start.running).rejects.toMatchObject({
      reason: 'StartFailed',
      message: 'Bad.'
    });
    events.sendKernel(failed);
    await settle();
    expect(happenings).toEqual(['starting k1', 'start-failed k1']);
  });

  it('ends a start that was cancelled elsewhere', async () => {
    await open();
    const start = await model.start({ template: 'py' });
    await settle();
    api.store.delete('k1');
    events.sendKernel(makeKernel(), 'removed');
    await settle();
    await expect(start.running).rejects.toMatchObject({ reason: 'StartCancelled' });
  });

  it('lets the refusal of a start through as the server words it', async () => {
    await open();
    const refusal = new ElasticProblem({
      reason: 'QuotaFull',
      message: '1 GiB asked, 0.4 GiB free.',
      remedy: 'Stop a kernel.',
      status: 429
    });
    api.failures.set('start', refusal);
    await expect(model.start({ template: 'py' })).rejects.toBe(refusal);
    expect(model.kernels).toHaveLength(0);
  });

  it('resizes at once', async () => {
    api.put(makeKernel());
    await open();
    await model.resize('k1', { memory: '2Gi' });
    expect(api.changes).toEqual([{ id: 'k1', resources: { memory: '2Gi' } }]);
    expect(model.resizeOf('k1')?.state).toBe('done');
    expect(model.kernel('k1')?.resources.memory).toBe('2Gi');
    model.clearResize('k1');
    expect(model.resizeOf('k1')).toBeNull();
  });

  it('says no more of a resize once the kernel was killed or restarted', async () => {
    const kernel = api.put(makeKernel());
    await open();
    await model.resize('k1', { memory: '2Gi' });
    const killed = { ...kernel, restarts: 1, reason: 'OutOfMemory', message: 'Lost.' };
    events.sendKernel(api.put(killed));
    await settle();
    expect(model.resizeOf('k1')).toBeNull();

    await model.resize('k1', { memory: '4Gi' });
    events.sendKernel(api.put({ ...killed, reason: '', message: '' }));
    await settle();
    // That the reason has passed takes nothing from what the user was told.
    expect(model.resizeOf('k1')?.state).toBe('done');

    const refusal = new ElasticProblem({ reason: 'QuotaFull', message: 'No room.' });
    api.failures.set('change', refusal);
    await expect(model.resize('k1', { memory: '8Gi' })).rejects.toBe(refusal);
    events.sendKernel(api.put({ ...kernel, restarts: 2 }));
    await settle();
    expect(model.resizeOf('k1')).toBeNull();
  });

  it('removes the record of a failed start once it is dismissed', async () => {
    await open();
    const start = await model.start({ template: 'py' });
    api.steps.set('k1', { phase: 'Failed', done: true, steps: [] });
    events.sendKernel(api.put(makeKernel({ phase: 'Failed', message: 'Bad.' })));
    await expect(start.running).rejects.toMatchObject({ message: 'Bad.' });
    await model.dismissStart('k1');
    expect(api.store.size).toBe(0);
    expect(model.kernels).toHaveLength(0);
    expect(model.startOf('k1')).toBeNull();
  });

  it('ends a kernel only if it has not ended with its session', async () => {
    api.put(makeKernel());
    api.put(makeKernel({ kernel_id: 'k2' }));
    await open();
    api.store.delete('k1');
    await model.ensureStopped('k1');
    expect(api.count('stop')).toBe(0);
    expect(model.kernel('k1')).toBeNull();
    await model.ensureStopped('k2');
    expect(api.count('stop')).toBe(1);
    expect(model.kernels).toHaveLength(0);
  });

  it('waits for a resize in progress, even if no event comes', async () => {
    api.put(makeKernel());
    await open();
    api.onChange = kernel => ({ ...kernel, resize: { state: 'InProgress' } });
    const resized = model.resize('k1', { memory: '2Gi' });
    await settle();
    expect(model.resizeOf('k1')?.state).toBe('applying');
    api.put(
      makeKernel({ resources: { cpu: '1', memory: '2Gi' }, resize: { state: 'Done' } })
    );
    await jest.advanceTimersByTimeAsync(2500);
    await expect(resized).resolves.toMatchObject({ resources: { memory: '2Gi' } });
    expect(model.resizeOf('k1')?.state).toBe('done');
  });

  it('says why a resize was refused, at once or later', async () => {
    api.put(makeKernel());
    await open();
    api.failures.set(
      'change',
      new ElasticProblem({
        reason: 'ShrinkUnderUse',
        message: '600 MiB are in use.',
        remedy: 'Free memory first.'
      })
    );
    await expect(model.resize('k1', { memory: '128Mi' })).rejects.toMatchObject({
      reason: 'ShrinkUnderUse'
    });
    expect(model.resizeOf('k1')).toEqual({
      state: 'refused',
      wish: { memory: '128Mi' },
      replaces: false,
      ranOut: false,
      reason: 'ShrinkUnderUse',
      message: '600 MiB are in use.',
      remedy: 'Free memory first.'
    });
    api.onChange = kernel => ({
      ...kernel,
      resize: { state: 'Refused', reason: 'QuotaFull', message: 'No room.' }
    });
    await expect(model.resize('k1', { memory: '8Gi' })).rejects.toMatchObject({
      reason: 'QuotaFull'
    });
    expect(model.resizeOf('k1')?.message).toBe('No room.');
  });

  it('rejects a resize when the kernel ends meanwhile', async () => {
    api.put(makeKernel());
    await open();
    api.onChange = kernel => ({ ...kernel, resize: { state: 'InProgress' } });
    const resized = model.resize('k1', { memory: '2Gi' });
    const outcome = expect(resized).rejects.toMatchObject({ reason: 'Gone' });
    await settle();
    api.store.delete('k1');
    events.sendKernel(makeKernel(), 'removed');
    await outcome;
  });

  it('stops a kernel, also one that has ended already', async () => {
    api.put(makeKernel());
    await open();
    api.store.delete('k1');
    await model.stop('k1');
    expect(model.kernel('k1')).toBeNull();
  });

  it('reads use only of kernels that are watched, and only while they are', async () => {
    api.put(makeKernel());
    api.put(makeKernel({ kernel_id: 'k2' }));
    await open();
    await jest.advanceTimersByTimeAsync(20000);
    expect(api.count('usage')).toBe(0);
    const watch = model.watch('k1');
    await jest.advanceTimersByTimeAsync(11000);
    expect(model.usage('k1')?.memory).toBe(256 * 2 ** 20);
    expect(model.usage('k2')).toBeNull();
    watch.dispose();
    const before = api.count('usage');
    await jest.advanceTimersByTimeAsync(60000);
    expect(api.count('usage')).toBe(before);
  });

  it('asks for nothing after it is disposed', async () => {
    api.put(makeKernel());
    await open();
    model.watch('k1');
    await model.start({ template: 'py' });
    model.dispose();
    await settle();
    const before = api.calls.length;
    events.sendPool();
    await jest.advanceTimersByTimeAsync(120000);
    expect(api.calls.length).toBe(before);
  });
});

describe('standby', () => {
  it('polls nothing while the page is hidden', async () => {
    jest.useFakeTimers();
    const hide = (isHidden: boolean): void => {
      const state = isHidden ? 'hidden' : 'visible';
      Object.defineProperty(document, 'hidden', {
        value: isHidden,
        configurable: true
      });
      Object.defineProperty(document, 'visibilityState', {
        value: state,
        configurable: true
      });
      document.dispatchEvent(new Event('visibilitychange'));
    };
    const api = new FakeApi();
    const model = new ElasticModel({ api, pollInterval: 1000 });
    hide(true);
    void model.open();
    await jest.advanceTimersByTimeAsync(60000);
    // Lumino's polls linger for one more round after a page is hidden.
    expect(api.count('kernels')).toBeLessThanOrEqual(1);
    hide(false);
    await jest.advanceTimersByTimeAsync(5000);
    expect(api.count('kernels')).toBeGreaterThan(1);
    model.dispose();
    jest.useRealTimers();
  });
});

describe('whatHappened', () => {
  const running = makeKernel();
  const oom = makeKernel({
    reason: 'OutOfMemory',
    message: 'Limit 1 GiB.',
    restarts: 1
  });

  it('tells of each out-of-memory once', () => {
    expect(whatHappened(running, oom)).toBe('out-of-memory');
    expect(whatHappened(oom, { ...oom, execution_state: 'busy' })).toBeNull();
    expect(whatHappened(oom, { ...oom, restarts: 2 })).toBe('out-of-memory');
  });

  it('tells of a kernel that died and came back, and of no restart that was asked for', () => {
    const back = makeKernel({ reason: 'Crashed', message: 'Signal 11.', restarts: 1 });
    expect(whatHappened(running, back)).toBe('came-back');
    expect(whatHappened(back, { ...back, message: 'Signal 6.' })).toBeNull();
    expect(whatHappened(running, makeKernel({ restarts: 1 }))).toBeNull();
  });

  it('tells a failure from a failed start', () => {
    const failed = makeKernel({ phase: 'Failed' });
    expect(whatHappened(running, failed)).toBe('failed');
    expect(whatHappened(makeKernel({ phase: 'Queued' }), failed)).toBe('start-failed');
    expect(whatHappened(failed, failed)).toBeNull();
  });

  it('has nothing to tell of a kernel that just runs', () => {
    expect(whatHappened(null, running)).toBeNull();
    expect(whatHappened(running, running)).toBeNull();
  });
});
