/** Answers that come in another order than the one in which they were asked for. */
import { ElasticModel } from '../model';
import { IHappening } from '../happenings';
import { FakeApi, FakeEvents, makeKernel, makeTemplate } from './fakes';

describe('readings that overlap', () => {
  let api: FakeApi;
  let events: FakeEvents;
  let model: ElasticModel;
  let happenings: string[];

  const settle = (): Promise<void> => jest.advanceTimersByTimeAsync(0);

  beforeEach(async () => {
    jest.useFakeTimers();
    api = new FakeApi();
    events = new FakeEvents();
    model = new ElasticModel({ api, events: events.manager, standby: 'never' });
    happenings = [];
    model.happened.connect((_: ElasticModel, { kind, kernel }: IHappening) => {
      happenings.push(`${kind} ${kernel.kernel_id}`);
    });
    api.put(makeKernel());
    void model.open();
    await settle();
  });

  afterEach(() => {
    model.dispose();
    jest.useRealTimers();
  });

  /** Begin to read all; a test may be over before the end of it. */
  const refresh = (): void => {
    model.refresh().catch(() => undefined);
  };

  const renamed = makeKernel({ name: 'new' });

  it('keep the one that was begun last, whichever answers last', async () => {
    const answer = api.hold('kernel');
    events.sendKernel(api.put(makeKernel({ name: 'old' })));
    events.sendKernel(api.put(renamed));
    await settle();
    expect(model.kernel('k1')?.name).toBe('new');
    answer();
    await settle();
    expect(model.kernel('k1')?.name).toBe('new');
  });

  it('keep what an event led to over a list that was begun before', async () => {
    const answer = api.hold('kernels');
    refresh();
    await settle();
    events.sendKernel(api.put(renamed));
    await settle();
    answer();
    await settle();
    expect(model.kernel('k1')?.name).toBe('new');
    // The next list is believed again.
    api.put(makeKernel({ name: 'newer' }));
    refresh();
    await settle();
    expect(model.kernel('k1')?.name).toBe('newer');
  });

  it('do not bring back what has gone', async () => {
    const answerList = api.hold('kernels');
    const answerOne = api.hold('kernel');
    refresh();
    events.sendKernel(makeKernel());
    await settle();
    api.store.delete('k1');
    events.sendKernel(makeKernel(), 'removed');
    answerList();
    answerOne();
    await settle();
    expect(model.kernels).toEqual([]);
  });

  it('do not bring back what was stopped here', async () => {
    const answer = api.hold('kernels');
    refresh();
    await settle();
    await model.stop('k1');
    answer();
    await settle();
    expect(model.kernels).toEqual([]);
  });

  it('do not take away what a list could not have yet', async () => {
    const answer = api.hold('kernels');
    refresh();
    await settle();
    events.sendKernel(api.put(makeKernel({ kernel_id: 'k2' })), 'added');
    await settle();
    answer();
    await settle();
    expect(model.kernels).toHaveLength(2);
  });

  it('do not put back a start whose answer comes after its end', async () => {
    const answer = api.hold('start');
    const starting = model.start({ template: 'py' });
    await settle();
    api.steps.set('k2', { phase: 'Running', done: true, steps: [] });
    events.sendKernel(api.put(makeKernel({ kernel_id: 'k2' })));
    await settle();
    answer();
    const start = await starting;
    await jest.advanceTimersByTimeAsync(1000);
    await expect(start.running).resolves.toMatchObject({ phase: 'Running' });
    expect(model.kernel('k2')?.phase).toBe('Running');
    expect(happenings).not.toContain('starting k2');
  });

  it('leave no doubt about a change during which they were made', async () => {
    // One of them is answered before the change, one after it; both have seen the time before.
    let change = (): void => undefined;
    api.answering = new Promise(resolve => (change = resolve));
    const resized = model.resize('k1', { memory: '4Gi' });
    await settle();
    const answer = api.hold('kernels');
    refresh();
    events.sendKernel(makeKernel());
    await settle();
    change();
    await expect(resized).resolves.toMatchObject({ resources: { memory: '4Gi' } });
    expect(model.kernel('k1')?.resources.memory).toBe('4Gi');
    answer();
    await settle();
    expect(model.kernel('k1')?.resources.memory).toBe('4Gi');
    expect(model.resizeOf('k1')?.state).toBe('done');
  });

  it('do not undo what happened while a change was answered', async () => {
    // The answer is of before the kernel was killed; it is the last to arrive.
    const answer = api.hold('change');
    void model.resize('k1', { memory: '4Gi' });
    await settle();
    const killed = { reason: 'OutOfMemory', message: 'Limit 4 GiB.', restarts: 1 };
    const resources = { cpu: '1', memory: '4Gi' };
    events.sendKernel(api.put(makeKernel({ ...killed, resources })));
    await settle();
    answer();
    await settle();
    expect(model.kernel('k1')?.restarts).toBe(1);
    expect(happenings).toEqual(['out-of-memory k1']);
  });

  it('of progress do not turn it back', async () => {
    const start = await model.start({ template: 'py' });
    const id = start.kernel.kernel_id;
    await settle();
    const step = (name: string) => ({ time: 1, name, message: '' });
    const progress = { phase: 'Starting' as const, done: false };
    api.steps.set(id, { ...progress, steps: [step('claimed')] });
    const answer = api.hold('progress');
    const first = start.refresh();
    api.steps.set(id, { ...progress, steps: [step('claimed'), step('started')] });
    await start.refresh();
    answer();
    await first;
    expect(start.steps).toHaveLength(2);
  });

  it('of the pool keep the one that was begun last', async () => {
    const answer = api.hold('capacity');
    refresh();
    await settle();
    api.offered = [makeTemplate({ warm: 5 })];
    events.sendPool();
    await jest.advanceTimersByTimeAsync(1000);
    expect(model.template('py')?.warm).toBe(5);
    answer();
    await settle();
    expect(model.template('py')?.warm).toBe(5);
  });
});
